//! `tollgate keys`: API keys and AWS credentials that the gateway issues.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Subcommand;

use super::period::duration;
use crate::identity::{KeysFile, Owner};

#[derive(Subcommand)]
pub(super) enum Keys {
    /// Issue a key, and print it: this once
    ///
    /// An API key goes into `Authorization: Bearer`, `x-api-key`, or wherever an SDK takes a Bedrock, OpenAI or
    /// Anthropic key. With --aws, an access key id and a secret for a profile of any AWS SDK: it signs its
    /// requests with them.
    New {
        #[command(flatten)]
        file: File,
        /// The tenant that it speaks for
        #[arg(long)]
        tenant: String,
        /// The user within the tenant
        #[arg(long)]
        user: Option<String>,
        /// A group of the user; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// How long it counts: days or hours, as in 90d or 12h; for ever, if left out
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
        /// Issue an AWS credential instead of an API key
        #[arg(long, requires = "key_file")]
        aws: bool,
        /// What its secret is encrypted under in the file; made, if there is none
        #[arg(long, value_name = "FILE", requires = "aws")]
        key_file: Option<PathBuf>,
    },
    /// Show every key: its public name, whose it is, until when, and whether it counts
    List {
        #[command(flatten)]
        file: File,
    },
    /// Revoke a key, from the next request after the gateway has read the file again: within two seconds
    Revoke {
        #[command(flatten)]
        file: File,
        /// Its public name, as `tollgate keys list` shows it
        id: String,
    },
    /// Make a key file: what secrets are encrypted under
    Init {
        /// Where to write it; nothing may be there yet
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
}

#[derive(clap::Args)]
pub(super) struct File {
    /// The file of keys, as `identity` in gateway.yaml names it
    #[arg(long = "file", value_name = "FILE", default_value = "keys.yaml")]
    path: PathBuf,
}

/// What a command says.
pub(super) struct Said {
    /// For a person, on stderr.
    pub(super) note: String,
    /// For a pipe, on stdout: a key is there and nowhere else.
    pub(super) answer: String,
}

impl Keys {
    /// Does what it says, at the time `now`.
    pub(super) fn run(self, now: SystemTime) -> Result<Said, String> {
        match self {
            Self::New { file, tenant, user, groups, expires, key_file, aws: _ } => {
                let ends = |expires| now.checked_add(expires).ok_or("the expiry is too far away");
                let owner = Owner { tenant, user, groups, expires: expires.map(ends).transpose()? };
                issue(&KeysFile::at(&file.path), key_file, owner)
            }
            Self::List { file } => list(&KeysFile::at(&file.path), now),
            Self::Revoke { file, id } => {
                KeysFile::at(&file.path).revoke(&id).map_err(|error| error.to_string())?;
                Ok(Said { note: format!("`{id}` is revoked"), answer: String::new() })
            }
            Self::Init { key_file } => {
                KeysFile::init(&key_file).map_err(|error| error.to_string())?;
                Ok(Said { note: format!("`{}` is made: keep a copy where the keys are not", key_file.display()), answer: String::new() })
            }
        }
    }
}

fn issue(file: &KeysFile, key_file: Option<PathBuf>, owner: Owner) -> Result<Said, String> {
    let told = |error: crate::identity::EditError| error.to_string();
    let tenant = owner.tenant.clone();
    let Some(key_file) = key_file else {
        let (id, key) = file.new_api_key(owner).map_err(told)?;
        let note = format!("API key `{id}` of tenant `{tenant}`; it is shown this once:");
        return Ok(Said { note, answer: format!("{}\n", key.expose()) });
    };
    let (id, secret) = file.new_aws_credential(&key_file, owner).map_err(told)?;
    let note = format!("AWS credential `{id}` of tenant `{tenant}`, for ~/.aws/credentials; it is shown this once:");
    Ok(Said { note, answer: format!("[tollgate]\naws_access_key_id = {id}\naws_secret_access_key = {}\n", secret.expose()) })
}

fn list(file: &KeysFile, now: SystemTime) -> Result<Said, String> {
    const HEAD: [&str; 7] = ["KIND", "ID", "TENANT", "USER", "GROUPS", "EXPIRES", "STATE"];
    let rows = file.list(now).map_err(|error| error.to_string())?;
    let cells = rows.iter().map(|row| [&*row.kind, &row.id, &row.tenant, &row.user, &row.groups, &row.expires, row.state]);
    let table: Vec<[&str; 7]> = std::iter::once(HEAD).chain(cells).collect();
    let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut answer = String::new();
    for row in &table {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        answer.push_str(padded.join("  ").trim_end());
        answer.push('\n');
    }
    Ok(Said { note: format!("{} keys", rows.len()), answer })
}
