//! The few words that rooms share: no I/O, no async, no Pingora.
//!
//! A type lives here only when one room makes it and another reads it; everything else stays in its room.

mod call;
mod canary;
mod canonical_path;
mod causes;
mod client_certificate;
mod clock;
mod connections;
mod ejection;
mod file_stamp;
mod geography;
mod glob;
mod hex;
mod model_name;
mod money;
mod principal;
mod quota;
mod rejection;
mod request_id;
mod rfc3339;
mod secret;
mod service;
mod stop;
mod trace;
mod usage;

pub use call::{Asked, Call};
pub use canary::KeptCanary;
pub use canonical_path::CanonicalPath;
pub use causes::causes;
pub use client_certificate::ClientCertificate;
pub use clock::{Clock, ManualClock};
pub use connections::{Reread, TurnedAway};
pub use ejection::Ejection;
pub use file_stamp::FileStamp;
pub use geography::{GEOGRAPHIES, split_geography, unknown_geography};
pub use glob::Glob;
pub use hex::{hex, push_hex};
pub use model_name::{ModelArn, fold_model, is_model, lower_case, model_name, spellings};
pub use money::{Cost, Usd};
pub use principal::{MIRROR_TENANT, Method, Principal};
pub use quota::{Grant, LimitWarning, Quota, QuotaChange, QuotaElsewhere, Subject, client_network};
pub use rejection::{Reason, Rejection};
pub use request_id::RequestId;
pub use rfc3339::rfc3339;
pub use secret::Secret;
pub use service::{CONTROL_SEGMENTS, HostRule, RUNTIME_SEGMENTS, SERVICES, Service};
pub use stop::{STOP_KINDS, Stop, Stopped};
pub use trace::Trace;
pub use usage::{Basis, GuardrailUnits, Tier, TokenKind, Tokens, Usage};
