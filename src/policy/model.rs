//! A model's id, and what it stands for: the foundation model, the geography, the region of its ARN.

use std::borrow::Cow;

use super::regions::Geography;
use crate::config::policy::GEOGRAPHIES;

/// A model as a call names it, read for judging.
#[derive(Debug)]
pub(super) struct ModelId<'c> {
    /// As it was sent.
    sent: &'c str,
    /// In lower case; none where it is written as no id of Bedrock's is.
    folded: Option<Cow<'c, str>>,
}

/// The parts of `arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arn<'i> {
    service: &'i str,
    /// Empty where the ARN has none.
    pub(super) region: &'i str,
    /// `inference-profile`
    kind: &'i str,
    /// What follows the slash.
    name: &'i str,
}

impl<'c> ModelId<'c> {
    /// Reads an id that was decoded once.
    pub(super) fn read(sent: &'c str) -> Self {
        // Ids and ARNs of Bedrock, and SageMaker's endpoints, are of these characters (botocore 1.44.5, the patterns of `modelId`), begin and end
        // with a letter or digit, and hold no empty or dotted step: what differs, the upstream may take for something else than we do.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/');
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let well_written = sent.bytes().all(plain)
            && ends(sent.bytes().next())
            && ends(sent.bytes().next_back())
            && !["..", "//", "/.", "./", "-/"].iter().any(|odd| sent.contains(odd));
        let folded = well_written.then(|| {
            if sent.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(sent.to_ascii_lowercase()) } else { Cow::Borrowed(sent) }
        });
        Self { sent, folded }
    }

    /// As the caller sent it.
    pub(super) const fn sent(&self) -> &'c str {
        self.sent
    }

    /// In lower case; none where it is written as no id of Bedrock's is.
    pub(super) fn folded(&self) -> Option<&str> {
        self.folded.as_deref()
    }

    /// Its parts, where it is an ARN.
    pub(super) fn arn(&self) -> Option<Arn<'_>> {
        Arn::read(self.folded()?)
    }

    /// The names by which a rule may allow it: as it was sent, and the foundation model behind it where that can be told.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let sent = self.folded();
        let behind = sent.and_then(|id| match Arn::read(id) {
            Some(arn) if arn.is_model_or_profile() => Some(arn.name),
            Some(_) => None,
            None => Some(id),
        });
        let bare = behind.and_then(|id| split_geography(id)).map(|(_, model)| model);
        let behind = behind.filter(|behind| Some(*behind) != sent);
        sent.into_iter().chain(behind).chain(bare)
    }

    /// The names by which a rule may deny it: those, and what more it may stand for: the base of a customised model, the model behind a prefix that no
    /// geography is known by.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        let name = self.folded().map(|id| Arn::read(id).map_or(id, |arn| arn.name));
        let base = name.and_then(|name| name.split_once('/')).map(|(base, _)| base);
        self.names().chain(name).chain(base).chain(name.and_then(unprefixed)).chain(base.and_then(unprefixed))
    }

    /// Where the name says that it may be answered.
    pub(super) fn geography(&self) -> Geography<'_> {
        let Some(id) = self.folded() else { return Geography::Hidden };
        let arn = Arn::read(id);
        match arn {
            Some(arn) if arn.is_model_or_profile() => match Geography::of(arn.name) {
                Geography::Nameless => Geography::Hidden,
                told => told,
            },
            Some(arn) if arn.stays() => Geography::None,
            Some(_) => Geography::Hidden,
            None => Geography::of(id),
        }
    }
}

impl<'i> Arn<'i> {
    fn read(id: &'i str) -> Option<Self> {
        let mut parts = id.strip_prefix("arn:")?.splitn(5, ':');
        let (_partition, service, region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
        Some(Self { service, region, kind, name })
    }

    /// Whether it says which foundation model it is.
    fn is_model_or_profile(&self) -> bool {
        self.service == "bedrock" && matches!(self.kind, "foundation-model" | "inference-profile")
    }

    /// Whether it is answered in its own region. An application inference profile, a prompt or a prompt router is answered wherever whoever made it said.
    fn stays(&self) -> bool {
        let kinds: &[&str] = match self.service {
            "bedrock" => &["provisioned-model", "custom-model", "custom-model-deployment", "imported-model"],
            "sagemaker" => &["endpoint"],
            _ => &[],
        };
        kinds.contains(&self.kind)
    }
}

/// `us.amazon.nova-lite-v1:0` is `us` and `amazon.nova-lite-v1:0`.
pub(super) fn split_geography(id: &str) -> Option<(&'static str, &str)> {
    let (first, model) = id.split_once('.')?;
    GEOGRAPHIES.iter().find(|(name, _)| *name == first).map(|(name, _)| (*name, model))
}

/// What follows the first part of a name of at least three.
fn unprefixed(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once('.')?;
    rest.contains('.').then_some(rest)
}
