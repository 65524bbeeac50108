//! A model's id, and what it stands for: the foundation model, the geography, the region of its ARN.

use super::regions::Geography;
use crate::domain::{ModelArn, split_geography};

/// A model as a call names it, and all that it may stand for, found once for however many rules.
#[derive(Debug)]
pub(super) struct ModelId<'i> {
    /// As it was sent.
    sent: &'i str,
    /// In lower case; none where it is written as no id of Bedrock's is.
    folded: Option<&'i str>,
    arn: Option<ModelArn<'i>>,
    /// By which a rule may allow it: as it was sent, and the foundation model behind it where that can be told, with its geography and without.
    names: [Option<&'i str>; 4],
    /// By which a rule may deny it, beside those: the base of a customised model, the model behind a prefix that no geography is known by.
    aliases: [Option<&'i str>; 4],
}

impl<'i> ModelId<'i> {
    /// Reads an id that was decoded once, and the same as [`fold_model`](crate::domain::fold_model) has it.
    pub(super) fn read(sent: &'i str, folded: Option<&'i str>) -> Self {
        let arn = folded.and_then(ModelArn::read);
        let name = arn.map_or(folded, |arn| Some(arn.name));
        let behind = name.filter(|_| arn.is_none_or(ModelArn::is_model_or_profile));
        let without = behind.and_then(split_geography).map(|(_, model)| model);
        let base = name.and_then(|name| name.split_once('/')).map(|(base, _)| base);
        // Each once: most ids are no ARN, and have nothing more to them than their prefix.
        Self {
            sent,
            folded,
            arn,
            names: [folded, behind.filter(|_| arn.is_some()), without, None],
            aliases: [
                name.filter(|_| behind.is_none()),
                name.and_then(unprefixed).filter(|model| Some(*model) != without),
                base,
                base.and_then(unprefixed),
            ],
        }
    }

    /// The same, where a client calls it `alias`, in lower case.
    pub(super) fn or_alias(mut self, alias: &'i str) -> Self {
        let [.., free] = &mut self.names;
        *free = Some(alias);
        self
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

    /// The same, of an id that nothing else is asked about.
    pub(super) fn into_aliases(self) -> impl Iterator<Item = &'i str> {
        self.names.into_iter().chain(self.aliases).flatten()
    }

    /// Where the name says that it may be answered.
    pub(super) fn geography(&self) -> Geography<'i> {
        let Some(id) = self.folded else { return Geography::Hidden };
        match self.arn {
            Some(arn) if arn.is_model_or_profile() => match Geography::of(arn.name) {
                Geography::Nameless => Geography::Hidden,
                told => told,
            },
            Some(arn) if stays(arn) => Geography::None,
            Some(_) => Geography::Hidden,
            None => Geography::of(id),
        }
    }
}

/// Whether it is answered in its own region. An application inference profile, a prompt or a prompt router is answered wherever whoever made it said.
fn stays(arn: ModelArn<'_>) -> bool {
    let kinds: &[&str] = match arn.service {
        "bedrock" => &["provisioned-model", "custom-model", "custom-model-deployment", "imported-model"],
        "sagemaker" => &["endpoint"],
        _ => &[],
    };
    kinds.contains(&arn.kind)
}

/// What follows the first part of a name of at least three.
fn unprefixed(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once('.')?;
    rest.contains('.').then_some(rest)
}
