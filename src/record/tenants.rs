//! What each tenant did since the start, for people who look.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::labels::StatusClass;
use super::series::Series;
use crate::domain::{TokenKind, Tokens, Usd};

/// One tenant's sums since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantFigures {
    /// The tenant: empty for callers whom nobody knows, `other` for those that found no room in the metrics.
    pub tenant: String,
    /// Exchanges that ended.
    pub requests: u64,
    /// Those that the gateway refused or broke off.
    pub refused: u64,
    /// Those answered with 4xx or 5xx, by whomever.
    pub errors: u64,
    /// What they used.
    pub tokens: Tokens,
    /// What that cost, where a price is known.
    pub cost: Usd,
    /// Exchanges that used what no price is known for.
    pub unpriced_requests: u64,
}

/// The figures of every tenant, by name. `series` is in the order of the names.
pub(super) fn figures(series: &[Arc<Series>]) -> Vec<TenantFigures> {
    let by_tenant = series.chunk_by(|one, next| one.names.tenant == next.names.tenant);
    by_tenant.filter_map(|sets| sets.first().map(|first| of_one(&first.names.tenant, sets))).collect()
}

fn of_one(tenant: &str, sets: &[Arc<Series>]) -> TenantFigures {
    let mut figures = TenantFigures { tenant: tenant.to_owned(), ..TenantFigures::default() };
    for series in sets {
        for classes in series.requests.iter().filter_map(|classes| classes.get()) {
            for (class, cell) in StatusClass::ALL.into_iter().zip(classes.iter()) {
                let number = cell.load(Relaxed);
                figures.requests += number;
                if matches!(class, StatusClass::ClientError | StatusClass::ServerError) {
                    figures.errors += number;
                }
            }
        }
        figures.refused += series.refusals.get().map_or(0, |reasons| reasons.iter().map(|cell| cell.load(Relaxed)).sum());
        let Some(metered) = series.metered.get() else { continue };
        for (kind, cell) in TokenKind::ALL.into_iter().zip(&metered.tokens) {
            let sum = match kind {
                TokenKind::Input => &mut figures.tokens.input,
                TokenKind::Output => &mut figures.tokens.output,
                TokenKind::CacheRead => &mut figures.tokens.cache_read,
                TokenKind::CacheWrite5m => &mut figures.tokens.cache_write_5m,
                TokenKind::CacheWrite1h => &mut figures.tokens.cache_write_1h,
            };
            *sum = sum.saturating_add(cell.load(Relaxed));
        }
        figures.tokens.reasoning = figures.tokens.reasoning.saturating_add(metered.reasoning.load(Relaxed));
        figures.cost += Usd::from_picos(metered.cost.load(Relaxed));
        figures.unpriced_requests += metered.unpriced_requests.load(Relaxed);
    }
    figures
}
