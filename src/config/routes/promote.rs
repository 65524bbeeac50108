//! `promote` of a target: how its share grows by itself, and what sends it back to nothing.

use std::time::Duration;

use super::super::reader::{Checked, FromValue, Value, parts_in_a_million};

/// All of a route's calls, in parts of a million.
const ALL: u32 = 1_000_000;
/// What is left to the others of a route shall be enough to compare with.
const MOST_BESIDE: u32 = 990_000;
/// The least share of a step.
const LEAST: u32 = 100;
/// The bounds of a window: it is counted in tenths, and what is older says little of a model.
const SHORTEST_WINDOW: Duration = Duration::from_secs(10);
const LONGEST_WINDOW: Duration = Duration::from_hours(24);

/// How the share of a canary grows, and by what it is compared with the other targets of its route, which are its baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promote {
    /// Its shares of the route's calls, one after another, in parts of a million: 1 to 20 of them, each more than the last, of 100 to 990,000 each; the
    /// last may be 1,000,000.
    pub steps: Vec<u32>,
    /// For so long it stays at each, at least. Default 1 h.
    pub every: Duration,
    /// The part of its calls that fail may be larger than the baseline's by so many parts of a million. Default 10,000: by one percentage point.
    pub errors: u32,
    /// Its typical time to the first token may be longer than the baseline's by so many percent, 1 to 1,000; none: it is not compared. Default 25.
    pub first_token: Option<u32>,
    /// What is compared is of the last so long: 10 s to a day, and no longer than `every`. Default 10 min.
    pub window: Duration,
    /// Fewer calls of either in the window say nothing: it neither steps up nor back by them. 1 to 1,000,000. Default 100.
    pub min_requests: u32,
}

impl FromValue for Promote {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let steps = map.required_by("steps", "[5%, 25%, 50%, 100%]", steps);
        let every = map.or("every", Duration::from_hours(1));
        let errors = map.value("errors").map_or(Ok(10_000), |value| parts_in_a_million(&value));
        let first_token = map.value("first_token").map_or(Ok(Some(25)), |value| slower(&value));
        let said = map.value("window");
        let window = said.as_ref().map_or(Ok(Duration::from_mins(10)), window);
        let min_requests = map.value("min_requests").map_or(Ok(100), |value| match u64::from_value(&value)? {
            number @ 1..=1_000_000 => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
            _ => value.refuse_with(format!("{} calls", value.quoted()), "1 to 1000000"),
        });
        map.finish()?;
        let (every, window) = (every?, window?);
        if window > every {
            let help = "each step is judged by its own calls alone: make `every` longer, or `window` shorter";
            return said.as_ref().unwrap_or(value).refuse_with(format!("a window of {window:?}, and a step every {every:?}"), help);
        }
        Ok(Self { steps: steps?, every, errors: errors?, first_token: first_token?, window, min_requests: min_requests? })
    }
}

fn steps(value: &Value<'_>) -> Checked<Vec<u32>> {
    let items = value.some_items("step")?;
    if let Some(beyond) = items.get(20) {
        return beyond.refuse("more than 20 are not thought of");
    }
    let mut steps: Vec<u32> = Vec::new();
    for item in &items {
        let step = parts_in_a_million(item)?;
        if !(LEAST..=MOST_BESIDE).contains(&step) && step != ALL {
            let help = "0.01% to 99%, or 100%: then the other targets get nothing";
            return item.refuse_with(format!("{} is no share of a canary", item.quoted()), help);
        }
        if steps.last().is_some_and(|last| *last >= step) {
            return item.refuse_with("is no step up: the one before is as large, or larger", "as in `[5%, 25%, 50%, 100%]`");
        }
        steps.push(step);
    }
    Ok(steps)
}

/// By how many percent it may be slower; none where that is not looked at.
fn slower(value: &Value<'_>) -> Checked<Option<u32>> {
    if value.is_false() || value.as_text() == Some("off") {
        return Ok(None);
    }
    let percent = value.as_text().and_then(|text| text.strip_suffix('%')?.parse::<u32>().ok());
    match percent {
        Some(percent @ 1..=1_000) => Ok(Some(percent)),
        _ => value.refuse_with(format!("{} is no margin of the baseline's time", value.quoted()), "`1%` to `1000%`, or `off`"),
    }
}

fn window(value: &Value<'_>) -> Checked<Duration> {
    let window = Duration::from_value(value)?;
    if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
        return Ok(window);
    }
    value.refuse_with(format!("a window of {}", value.quoted()), "`10s` to `24h`")
}
