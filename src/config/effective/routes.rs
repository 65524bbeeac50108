//! `routes`, as they are written: with the variables of stages, and not what stands for them.

use serde_yaml::Value;

use super::super::routes::{
    ChosenBy, Conditions, Drain, Failover, Mirror, Model, OnDisconnect, Place, Places, Promote, Rate, Retries, Route, Stage, Sticky,
    Target, Testers, Timeouts,
};
use super::scalars::percent;
use super::{Section, Shown};

impl Shown for Route {
    fn shown(&self) -> Value {
        let Self { name, stages, when, places, sticky, chosen_by, retries, timeouts, on_disconnect } = self;
        let Conditions { hosts, headers, services, operations, models, tenants, users, groups } = when;
        let Places { to, failover, mirror } = places;
        let section = Section::default().with("name", &**name);
        let section = if stages.is_empty() { section } else { section.with("stage", stages.as_slice()) };
        let headers = headers.iter().fold(Section::default(), |all, (name, patterns)| all.with(name.as_str(), patterns.as_slice()));
        let section = section
            .list("hosts", hosts)
            .filled("headers", &headers)
            .list("services", services)
            .list("operations", operations)
            .list("models", models)
            .list("tenants", tenants)
            .list("users", users)
            .list("groups", groups)
            .with("to", to.as_slice())
            .some("sticky", sticky.as_ref());
        let section = match chosen_by {
            None => section,
            Some(ChosenBy { header, testers }) => section.with("override", header).with("testers", testers),
        };
        section
            .list("failover", failover)
            .some("mirror", mirror.as_ref())
            .with("retries", retries)
            .with("timeouts", timeouts)
            .with("on_disconnect", on_disconnect)
            .done()
    }
}

/// As a mapping, which can hold all there is.
impl Shown for [Stage] {
    fn shown(&self) -> Value {
        let variables = |stage: &Stage| {
            let Stage { name: _, variables } = stage;
            variables.iter().fold(Section::default(), |all, (name, text)| all.with(name, &**text))
        };
        self.iter().fold(Section::default(), |all, stage| all.with(&stage.name, &variables(stage))).done()
    }
}

impl Shown for Target {
    fn shown(&self) -> Value {
        let Self { place, weight, promote } = self;
        match promote {
            None => place.section().with("weight", &u64::from(*weight)).done(),
            Some(promote) => place.section().with("promote", promote).done(),
        }
    }
}

impl Shown for Promote {
    fn shown(&self) -> Value {
        let Self { steps, every, errors, first_token, window, min_requests } = self;
        let steps: Vec<String> = steps.iter().map(|step| percent(*step)).collect();
        let first_token = first_token.map_or_else(|| "off".to_owned(), |percent| format!("{percent}%"));
        Section::default()
            .with("steps", steps.as_slice())
            .with("every", every)
            .with("errors", &percent(*errors))
            .with("first_token", &first_token)
            .with("window", window)
            .with("min_requests", &u64::from(*min_requests))
            .done()
    }
}

impl Place {
    fn section(&self) -> Section {
        let Self { name, upstream, model } = self;
        // The default is the upstream's name, with the variables in it: as a name of its own it would be none.
        let section = Section::default().some("name", (name != upstream).then_some(&**name));
        section.with("upstream", &**upstream).some("model", model.as_ref())
    }
}

impl Shown for Model {
    fn shown(&self) -> Value {
        match self {
            Self::Name(name) => name.shown(),
            Self::ByTenant { tenants, default } => tenants
                .iter()
                .fold(Section::default(), |all, (tenant, name)| all.with(tenant, &**name))
                .some("default", default.as_deref())
                .done(),
        }
    }
}

impl Shown for Failover {
    fn shown(&self) -> Value {
        match self {
            Self::Word(word) => word.shown(),
            Self::Place(place) => place.section().done(),
        }
    }
}

impl Shown for Mirror {
    fn shown(&self) -> Value {
        let Self { place, share } = self;
        place.section().with("share", &percent(*share)).done()
    }
}

impl Shown for Sticky {
    fn shown(&self) -> Value {
        match self {
            Self::User => "user".into(),
            Self::Tenant => "tenant".into(),
            Self::Header(name) => Section::default().with("header", name).done(),
        }
    }
}

impl Shown for Testers {
    fn shown(&self) -> Value {
        match self {
            Self::Everyone => "everyone".into(),
            Self::Groups(groups) => groups.as_slice().shown(),
        }
    }
}

impl Shown for Retries {
    fn shown(&self) -> Value {
        let Self { budget, min: Rate { events, period } } = self;
        let period = super::limits::period(*period);
        Section::default().with("budget", &percent(*budget)).with("min", &format!("{events}/{period}")).done()
    }
}

impl Shown for Timeouts {
    fn shown(&self) -> Value {
        let Self { connect, first_byte, idle, total } = self;
        Section::default().with("connect", connect).with("first_byte", first_byte).with("idle", idle).with("total", total).done()
    }
}

impl Shown for OnDisconnect {
    fn shown(&self) -> Value {
        match self {
            Self::Cancel => "cancel".into(),
            Self::Drain(Drain { time, max }) => {
                Section::default().with("drain", &Section::default().with("time", time).with("max", &u64::from(*max))).done()
            }
        }
    }
}
