//! A model's id, and what it stands for: the foundation model, the geography, the region of its ARN.

use std::borrow::Cow;

use super::regions::Geography;
use crate::config::policy::GEOGRAPHIES;

/// A model as a call names it, and all that it may stand for, found once for however many rules.
#[derive(Debug)]
pub(super) struct ModelId<'i> {
    /// As it was sent.
    sent: &'i str,
    /// In lower case; none where it is written as no id of Bedrock's is.
    folded: Option<&'i str>,
    arn: Option<Arn<'i>>,
    /// By which a rule may allow it: as it was sent, and the foundation model behind it where that can be told, with its geography and without.
    names: [Option<&'i str>; 3],
    /// By which a rule may deny it, beside those: the base of a customised model, the model behind a prefix that no geography is known by.
    aliases: [Option<&'i str>; 4],
}

/// An id in lower case; none where it is written as no id of Bedrock's is.
///
/// Ids and ARNs of Bedrock, and `SageMaker`'s endpoints, are of these characters (botocore 1.44.5, the patterns of `modelId`), begin and end with a letter or
/// digit, and hold no empty or dotted step: what differs, the upstream may take for something else than we do.
pub(super) fn fold(sent: &str) -> Option<Cow<'_, str>> {
    // The slash before the first letter stands for the beginning.
    let (mut before, mut capitals) = (b'/', false);
    for byte in sent.bytes() {
        let follows = match byte {
            b'.' => !matches!(before, b'.' | b'/'),
            b'/' => !matches!(before, b'.' | b'/' | b'-'),
            b'-' | b'_' | b':' => before != b'/',
            _ => byte.is_ascii_alphanumeric(),
        };
        if !follows {
            return None;
        }
        capitals |= byte.is_ascii_uppercase();
        before = byte;
    }
    if !before.is_ascii_alphanumeric() {
        return None;
    }
    Some(if capitals { Cow::Owned(sent.to_ascii_lowercase()) } else { Cow::Borrowed(sent) })
}

/// The parts of `arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arn<'i> {
    service: &'i str,
    /// Empty where the ARN has none.
    region: &'i str,
    /// `inference-profile`
    kind: &'i str,
    /// What follows the slash.
    name: &'i str,
}

impl<'i> ModelId<'i> {
    /// Reads an id that was decoded once, and the same as [`fold`] has it.
    pub(super) fn read(sent: &'i str, folded: Option<&'i str>) -> Self {
        let arn = folded.and_then(Arn::read);
        let name = arn.map_or(folded, |arn| Some(arn.name));
        let behind = name.filter(|_| arn.is_none_or(Arn::is_model_or_profile));
        let without = behind.and_then(split_geography).map(|(_, model)| model);
        let base = name.and_then(|name| name.split_once('/')).map(|(base, _)| base);
        // Each once: most ids are no ARN, and have nothing more to them than their prefix.
        Self {
            sent,
            folded,
            arn,
            names: [folded, behind.filter(|_| arn.is_some()), without],
            aliases: [
                name.filter(|_| behind.is_none()),
                name.and_then(unprefixed).filter(|model| Some(*model) != without),
                base,
                base.and_then(unprefixed),
            ],
        }
    }

    /// As the caller sent it.
    pub(super) const fn sent(&self) -> &'i str {
        self.sent
    }

    /// Whether it is written as Bedrock's ids are.
    pub(super) const fn is_well_written(&self) -> bool {
        self.folded.is_some()
    }

    /// The region of its ARN; none where it has none.
    pub(super) fn region(&self) -> Option<&'i str> {
        self.arn.map(|arn| arn.region).filter(|region| !region.is_empty())
    }

    /// The names by which a rule may allow it.
    pub(super) fn names(&self) -> impl Iterator<Item = &'i str> {
        self.names.into_iter().flatten()
    }

    /// The names by which a rule may deny it.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &'i str> {
        self.names().chain(self.aliases.into_iter().flatten())
    }

    /// Where the name says that it may be answered.
    pub(super) fn geography(&self) -> Geography<'i> {
        let Some(id) = self.folded else { return Geography::Hidden };
        match self.arn {
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
    fn is_model_or_profile(self) -> bool {
        self.service == "bedrock" && matches!(self.kind, "foundation-model" | "inference-profile")
    }

    /// Whether it is answered in its own region. An application inference profile, a prompt or a prompt router is answered wherever whoever made it said.
    fn stays(self) -> bool {
        let kinds: &[&str] = match self.service {
            "bedrock" => &["provisioned-model", "custom-model", "custom-model-deployment", "imported-model"],
            "sagemaker" => &["endpoint"],
            _ => &[],
        };
        kinds.contains(&self.kind)
    }
}

/// `us.amazon.nova-lite-v1:0` is the place of `us` in [`GEOGRAPHIES`], and `amazon.nova-lite-v1:0`.
pub(super) fn split_geography(id: &str) -> Option<(usize, &str)> {
    let (first, model) = id.split_once('.')?;
    GEOGRAPHIES.iter().position(|(name, _)| *name == first).map(|place| (place, model))
}

/// What follows the first part of a name of at least three.
fn unprefixed(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once('.')?;
    rest.contains('.').then_some(rest)
}
