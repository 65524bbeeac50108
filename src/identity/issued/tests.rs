//! Files of issued keys: issued by the command line's code, read by the gateway's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tollgate-issued-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn file(&self) -> PathBuf {
        self.0.join("keys.yaml")
    }

    fn key_file(&self) -> PathBuf {
        self.0.join("key")
    }

    /// The file, with these words in it and these permissions.
    fn holding(&self, text: &str, mode: u32) -> PathBuf {
        std::fs::write(self.file(), text).unwrap();
        std::fs::set_permissions(self.file(), Permissions::from_mode(mode)).unwrap();
        self.file()
    }

    fn open(&self) -> Result<Arc<IssuedKeys>, IdentityError> {
        let mut files = Files::default();
        files.api_keys(&config::ApiKeys { file: self.file() });
        files.aws_credentials(&config::AwsCredentials { file: self.file(), key_file: Some(self.key_file()).filter(|file| file.exists()) });
        files.read(&[]).map(|mut read| read.remove(0))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn owner(tenant: &str) -> Owner {
    Owner { tenant: tenant.to_owned(), user: Some("ann".to_owned()), groups: vec!["dev".to_owned(), "ops".to_owned()], expires: None }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn what_is_issued_is_known_until_it_ends_or_is_revoked() {
    let dir = Dir::new();
    let file = KeysFile::at(&dir.file());
    let (id, key) = file.new_api_key(owner("acme")).unwrap();
    let (brief, short) = file.new_api_key(Owner { expires: Some(at(2_000)), ..owner("acme") }).unwrap();
    let (akid, secret) = file.new_aws_credential(&dir.key_file(), owner("umbrella")).unwrap();
    assert_eq!(dir.file().metadata().unwrap().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(dir.file()).unwrap();
    assert!(!text.contains(key.expose()) && !text.contains(secret.expose()), "no secret at rest");

    let keys = dir.open().unwrap();
    let who = keys.api_key(key.expose(), at(1_000)).unwrap();
    assert_eq!(
        (&*who.tenant, who.user.as_deref(), who.key_id.as_deref(), who.method.label()),
        ("acme", Some("ann"), Some(&*id), "api_keys")
    );
    assert_eq!(who.groups.iter().map(|group| &**group).collect::<Vec<_>>(), ["dev", "ops"]);
    assert!(keys.api_key(short.expose(), at(1_999)).is_ok());
    assert_eq!(keys.api_key(short.expose(), at(2_000)), Err(Fault::ExpiredApiKey));
    let credential = keys.index().credential(&akid).map(Arc::clone).unwrap();
    assert_eq!(credential.secret.expose(), secret.expose());
    assert_eq!(&*credential.owner.at(at(0)).unwrap().tenant, "umbrella");

    for id in [&id, &akid] {
        file.revoke(id).unwrap();
    }
    assert!(keys.api_key(key.expose(), at(1_000)).is_ok(), "not looked yet");
    assert_eq!((keys.look(), keys.look()), (Look::Read, Look::Unchanged));
    assert_eq!(keys.api_key(key.expose(), at(1_000)), Err(Fault::DisabledApiKey));
    assert_eq!(keys.index().credential(&akid).unwrap().owner.at(at(0)), Err(Lapsed::Disabled));
    assert!(matches!(file.revoke("key-nobody"), Err(EditError::NoSuchKey { .. })));

    let rows = file.list(at(3_000)).unwrap();
    let shown: Vec<_> = rows.iter().map(|row| (&*row.kind, &*row.id, &*row.tenant, &*row.expires, row.state)).collect();
    let wanted = [
        ("api key", &*id, "acme", "never", "revoked"),
        ("api key", &*brief, "acme", "1970-01-01T00:33:20Z", "expired"),
        ("aws", &*akid, "umbrella", "never", "revoked"),
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn a_wrong_key_is_told_from_a_broken_one() {
    let dir = Dir::new();
    let (_, key) = KeysFile::at(&dir.file()).new_api_key(owner("acme")).unwrap();
    let keys = dir.open().unwrap();
    let other = text::api_key().unwrap();
    let mut typo = key.expose().clone();
    typo.pop();
    for (key, fault) in [
        (&*other, Fault::UnknownApiKey),
        (&typo, Fault::BrokenApiKey),
        ("tgk_", Fault::BrokenApiKey),
        ("", Fault::NoApiKey),
        ("sk-live-1", Fault::NoApiKey),
    ] {
        assert_eq!(keys.api_key(key, at(0)), Err(fault), "{key}");
    }
}

#[test]
fn a_bad_file_never_takes_the_place_of_a_good_one() {
    let dir = Dir::new();
    let (_, key) = KeysFile::at(&dir.file()).new_api_key(owner("acme")).unwrap();
    let good = std::fs::read_to_string(dir.file()).unwrap();
    let keys = dir.open().unwrap();
    for bad in ["- {", "nonsense", "- { id: a }", &"#".repeat(usize::try_from(entry::MAX_FILE).unwrap() + 1)] {
        dir.holding(bad, 0o600);
        assert_eq!((keys.look(), keys.look()), (Look::Refused, Look::Refused));
        assert!(keys.api_key(key.expose(), at(0)).is_ok());
    }
    std::fs::remove_file(dir.file()).unwrap();
    assert_eq!(keys.look(), Look::Refused);
    assert!(keys.api_key(key.expose(), at(0)).is_ok());
    dir.holding(&good, 0o600);
    assert_eq!((keys.look(), keys.look()), (Look::Read, Look::Unchanged));
    dir.holding("", 0o600);
    assert_eq!(keys.look(), Look::Read);
    assert_eq!(keys.api_key(key.expose(), at(0)), Err(Fault::UnknownApiKey), "an empty file holds no key");
}

#[test]
fn each_fault_of_a_file_names_its_entry_and_shows_no_secret() {
    let hash = "0".repeat(64);
    let other = "1".repeat(64);
    let one = format!("- {{ id: one, sha256: {hash}, tenant: acme }}\n");
    let cases = [
        ("tgk_thisissecretthisissecret".to_owned(), "is no list of keys: invalid type: string \"***\""),
        ("- tgk_thisissecretthisissecret".to_owned(), "[0]: invalid type: string \"***\", expected a key at line 1"),
        ("- { tgk_thisissecretthisissecret: a }".to_owned(), "unknown field `***`"),
        (format!("{one}- {{ id: two, sha256: {other}, tenat: x }}"), "[1]: unknown field `tenat`, expected one of"),
        (format!("{one}- {{ id: two, sha256: {other} }}"), "[1]: missing field `tenant`"),
        ("- { access_key_id: A, secret_access_key: 5151515151515151, tenant: x }".to_owned(), "put the value in quotes"),
        (format!("{one}- {{ id: two, sha256: abc, tenant: x }}"), "entry 2 (`two`): `sha256` is not 64"),
        (format!("{one}- {{ id: two, tenant: x }}"), "entry 2 (`two`): an API key has `id` and `sha256`"),
        (format!("- {{ id: two, sha256: {hash}, secret_access_key: x, tenant: x }}"), "an entry is one of the two"),
        (format!("- {{ id: 'a b', sha256: {hash}, tenant: x }}"), "entry 1 (`a b`): `id` is not"),
        (format!("- {{ id: a, sha256: {hash}, tenant: '' }}"), "entry 1 (`a`): `tenant`"),
        (
            format!("- {{ id: a, sha256: {hash}, tenant: (mirror) }}"),
            "entry 1 (`a`): `tenant` is the name that mirrored calls are booked under",
        ),
        (format!("- {{ id: a, sha256: {hash}, tenant: x, groups: [\"a\\nb\"] }}"), "entry 1 (`a`): `tenant`, `user` and each of `groups`"),
        (format!("- {{ id: a, sha256: {hash}, tenant: x, expires: 2027-01-31 }}"), "`expires` is not a time such as"),
        (format!("{one}- {{ id: one, sha256: {other}, tenant: x }}"), "entry 2 (`one`): an entry above has the same"),
        (format!("{one}- {{ id: two, sha256: {hash}, tenant: x }}"), "entry 2 (`two`): an entry above has the same"),
        ("- { access_key_id: A, sealed_secret: AAAA, tenant: x }".to_owned(), "entry 1 (`A`) is sealed: add `key_file`"),
    ];
    for (text, message) in cases {
        let dir = Dir::new();
        dir.holding(&text, 0o600);
        let told = dir.open().expect_err(&text).to_string();
        assert!(told.starts_with(&format!("`{}` ", dir.file().display())) && told.contains(message), "{text}: {told}");
        assert!(!told.contains("thisissecret") && !told.contains("515151"), "{told}");
    }
}

#[test]
fn secrets_in_the_clear_are_taken_from_a_file_that_nobody_else_can_read() {
    let text = "- { access_key_id: AKIDEXAMPLE, secret_access_key: wJalrXUtnFEMI, tenant: acme }";
    let dir = Dir::new();
    dir.holding(text, 0o640);
    let told = dir.open().unwrap_err().to_string();
    assert!(told.contains("entry 1 (`AKIDEXAMPLE`) holds its secret in the clear") && told.contains("mode 640"), "{told}");
    assert!(!told.contains("wJalr"));
    dir.holding(text, 0o600);
    assert_eq!(dir.open().unwrap().index().credential("AKIDEXAMPLE").unwrap().secret.expose(), "wJalrXUtnFEMI");
}

#[test]
fn sealed_secrets_may_be_read_by_anyone_and_opened_by_the_key_alone() {
    let dir = Dir::new();
    KeysFile::at(&dir.file()).new_aws_credential(&dir.key_file(), owner("acme")).unwrap();
    std::fs::set_permissions(dir.file(), Permissions::from_mode(0o644)).unwrap();
    assert!(dir.open().is_ok());
    std::fs::remove_file(dir.key_file()).unwrap();
    KeysFile::init(&dir.key_file()).unwrap();
    assert!(dir.open().unwrap_err().to_string().contains("its secret can't be opened"));
    std::fs::set_permissions(dir.key_file(), Permissions::from_mode(0o644)).unwrap();
    assert!(dir.open().unwrap_err().to_string().contains("is open to others than its owner (mode 644)"));
}

#[test]
fn many_that_issue_at_once_lose_nothing() {
    let dir = Dir::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    KeysFile::at(&dir.file()).new_api_key(owner("acme")).unwrap();
                }
            });
        }
    });
    assert_eq!(KeysFile::at(&dir.file()).list(at(0)).unwrap().len(), 40);
    let left: Vec<_> = std::fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["keys.yaml"], "nothing is left beside it");
}

#[test]
fn a_hundred_thousand_entries_are_read_and_one_more_is_refused() {
    let entry =
        |n: usize| entry::Entry { id: Some(n.to_string()), sha256: Some(format!("{n:064}")), tenant: "t".to_owned(), ..Default::default() };
    let entries: Vec<_> = (0..entry::MAX_ENTRIES).map(entry).collect();
    let text = entry::written(&entries).unwrap();
    assert!(text.len() as u64 <= entry::MAX_FILE);
    assert_eq!(entry::read(&text).unwrap().len(), entry::MAX_ENTRIES);
    assert!(matches!(entry::read(&format!("{text}- {{ tenant: t }}\n")), Err(KeysError::TooMany)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_of_a_file_panics(text in "(- [{]id: .{0,20}, sha256: .{0,20}, tenant: .{0,10}[}]\n|.{0,60}\n){0,4}") {
        if let Ok(entries) = entry::read(&text) {
            drop(Index::build(&entries, Wanted { api_keys: true, aws_credentials: true }, None, 0o600));
        }
    }

    #[test]
    fn what_is_written_is_read_again(tenant in "[^\\x00-\\x1f\\x7f-\\x9f]{1,20}", user in prop::option::of("[^\\x00-\\x1f\\x7f-\\x9f]{1,20}"), disabled: bool) {
        let entry = entry::Entry { id: Some("a".to_owned()), sha256: Some("0".repeat(64)), tenant, user, disabled, ..Default::default() };
        let read = entry::read(&entry::written(std::slice::from_ref(&entry)).unwrap()).unwrap();
        prop_assert_eq!((&read[0].tenant, &read[0].user, read[0].disabled), (&entry.tenant, &entry.user, entry.disabled));
    }
}
