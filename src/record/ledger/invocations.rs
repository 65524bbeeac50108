//! Bedrock's model-invocation logs, as it delivers them to S3: JSON lines, mostly gzipped
//! (<https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html>).
//!
//! A line holds prompts and completions. They are passed over: neither kept nor shown, not even where a line can't be read.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// No line is longer, in bytes; one that is is passed over. Bedrock moves bodies beyond 100 KB into files of their own.
const MOST_LINE: usize = 100 << 20;

/// What was found in a directory of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvocationLogs {
    /// Files that were read.
    pub files: u64,
    /// Lines that tell of an invocation.
    pub invocations: u64,
    /// Those of them that tell of one that an earlier line has told of.
    pub duplicates: u64,
    /// Lines that are something else: bodies that were moved out of the log, for one.
    pub other: u64,
    /// Lines that are no JSON, or lack a request id or a time.
    pub malformed: u64,
    /// Lines longer than 100 MiB.
    pub too_long: u64,
}

/// A log that can't be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {source}", .file.display())]
pub struct UnreadableLog {
    /// The file or directory.
    pub file: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What AWS counted for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) request_id: String,
    /// Milliseconds since 1970.
    pub(super) at: i64,
    pub(super) model: String,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    schema_type: Option<String>,
    timestamp: Option<String>,
    request_id: Option<String>,
    model_id: Option<String>,
    input: Option<Input>,
    output: Option<Output>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "AWS's words")]
struct Input {
    input_token_count: Option<u64>,
    cache_read_input_token_count: Option<u64>,
    cache_write_input_token_count: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    output_token_count: Option<u64>,
}

/// Reads every `*.json` and `*.json.gz` under `dir`, in order, and hands each invocation to `told`, which says whether it was new.
///
/// # Errors
/// The file and why, where a file or directory can't be read to its end: what is missing would look like drift. Or what `told` returned.
pub(super) fn read<E: From<UnreadableLog>>(dir: &Path, told: &mut impl FnMut(Invocation) -> Result<bool, E>) -> Result<InvocationLogs, E> {
    let mut logs = InvocationLogs::default();
    let mut line = Vec::new();
    for file in files(dir)? {
        let failed = |error| E::from(UnreadableLog { file: file.clone(), source: error });
        let opened = BufReader::with_capacity(1 << 16, File::open(&file).map_err(failed)?);
        let mut reader: Box<dyn BufRead> = if file.extension().is_some_and(|extension| extension == "gz") {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(opened)))
        } else {
            Box::new(opened)
        };
        logs.files += 1;
        while let Some(length) = next_line(&mut reader, &mut line, MOST_LINE).map_err(failed)? {
            match if length == Length::TooLong { Read::TooLong } else { parse(&line) } {
                Read::Invocation(invocation) => {
                    logs.invocations += 1;
                    logs.duplicates += u64::from(!told(invocation)?);
                }
                Read::Other => logs.other += 1,
                Read::Malformed => logs.malformed += 1,
                Read::TooLong => logs.too_long += 1,
                Read::Nothing => {}
            }
        }
    }
    Ok(logs)
}

/// The logs under `dir`, at any depth, in order of their names.
fn files<E: From<UnreadableLog>>(dir: &Path) -> Result<Vec<PathBuf>, E> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let failed = |error| E::from(UnreadableLog { file: dir.clone(), source: error });
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // A link to a directory could lead in a circle.
            if kind.is_dir() {
                dirs.push(path);
            } else if (name.ends_with(".json") || name.ends_with(".json.gz")) && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Invocation(Invocation),
    Other,
    Malformed,
    TooLong,
    Nothing,
}

fn parse(line: &[u8]) -> Read {
    if line.trim_ascii().is_empty() {
        return Read::Nothing;
    }
    let Ok(line) = serde_json::from_slice::<Line>(line) else {
        // What is JSON and no object of that shape is somebody's body; its text is not looked at.
        return if serde_json::from_slice::<IgnoredAny>(line).is_ok() { Read::Other } else { Read::Malformed };
    };
    if line.schema_type.as_deref() != Some("ModelInvocationLog") {
        return Read::Other;
    }
    let at = line.timestamp.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    let at = at.and_then(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    let (Some(at), Some(request_id)) = (at, line.request_id.filter(|id| !id.is_empty())) else { return Read::Malformed };
    let (input, output) = (line.input.unwrap_or_default(), line.output.unwrap_or_default());
    Read::Invocation(Invocation {
        request_id,
        at,
        model: line.model_id.unwrap_or_default(),
        input: input.input_token_count.unwrap_or(0),
        output: output.output_token_count.unwrap_or(0),
        cache_read: input.cache_read_input_token_count.unwrap_or(0),
        cache_write: input.cache_write_input_token_count.unwrap_or(0),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Whole,
    /// It was read to its end, and nothing of it kept.
    TooLong,
}

/// Reads a line of at most `most` bytes into `line`, without its line feed; none at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>, most: usize) -> io::Result<Option<Length>> {
    line.clear();
    line.shrink_to(1 << 20);
    let mut length = None;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(length);
        }
        let end = memchr::memchr(b'\n', available);
        let piece = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        let used = piece.len() + usize::from(end.is_some());
        if length == Some(Length::TooLong) || line.len() + piece.len() > most {
            length = Some(Length::TooLong);
            line.clear();
        } else {
            length = Some(Length::Whole);
            line.extend_from_slice(piece);
        }
        reader.consume(used);
        if end.is_some() {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_for_its_counts() {
        let line = br#"{"schemaType":"ModelInvocationLog","schemaVersion":"1.0","timestamp":"2026-11-22T13:00:44Z","accountId":"123456789012",
            "identity":{"arn":"arn:aws:sts::123456789012:assumed-role/gateway/s"},"region":"us-east-1","requestId":"r-1","operation":"Converse",
            "modelId":"amazon.nova-lite-v1:0","input":{"inputContentType":"application/json","inputBodyJson":{"messages":[{"inputTokenCount":99}]},
            "inputTokenCount":1,"cacheReadInputTokenCount":3,"cacheWriteInputTokenCount":4},"output":{"outputBodyJson":{},"outputTokenCount":2},
            "requestMetadata":{"team":"x"},"inferenceRegion":"us-west-2"}"#;
        let expected = Invocation {
            request_id: "r-1".into(),
            at: 1_795_352_444_000,
            model: "amazon.nova-lite-v1:0".into(),
            input: 1,
            output: 2,
            cache_read: 3,
            cache_write: 4,
        };
        assert_eq!(parse(line), Read::Invocation(expected));
    }

    #[test]
    fn what_is_no_invocation_is_told_apart() {
        for (line, read) in [
            ("", Read::Nothing),
            (" \r", Read::Nothing),
            ("{}", Read::Other),
            ("[1]", Read::Other),
            (r#"{"schemaType":"ModelInvocationLog2","requestId":"r"}"#, Read::Other),
            (r#"{"input":"a prompt"}"#, Read::Other),
            ("{", Read::Malformed),
            (r#"{"schemaType":"ModelInvocationLog","requestId":"r"}"#, Read::Malformed),
            (r#"{"schemaType":"ModelInvocationLog","timestamp":"2026-11-22T13:00:44Z"}"#, Read::Malformed),
            (r#"{"schemaType":"ModelInvocationLog","timestamp":"yesterday","requestId":"r"}"#, Read::Malformed),
        ] {
            assert_eq!(parse(line.as_bytes()), read, "{line}");
        }
    }

    #[test]
    fn a_line_beyond_the_bound_is_passed_over_and_the_next_is_read() {
        for capacity in [1, 3, 64] {
            let mut reader = BufReader::with_capacity(capacity, &b"abc\n\n0123456789\nabcde\nend"[..]);
            let mut line = Vec::new();
            let mut seen = Vec::new();
            while let Some(length) = next_line(&mut reader, &mut line, 5).unwrap() {
                seen.push((length, String::from_utf8(line.clone()).unwrap()));
            }
            let whole = |text: &str| (Length::Whole, text.to_owned());
            assert_eq!(seen, [whole("abc"), whole(""), (Length::TooLong, String::new()), whole("abcde"), whole("end")]);
        }
    }
}
