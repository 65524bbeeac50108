//! Which service: from what the client says on purpose, then from what the request looks like.

use http::HeaderMap;

use super::CallError;
use crate::domain::{CONTROL_SEGMENTS, RUNTIME_SEGMENTS, Service};

/// What clients of AWS's sample gateway send, in any case.
const PREFIX_HEADER: &str = "aws-endpoint-prefix";

/// The service, and the path that is left once what chose it is taken off.
pub(super) fn choose<'p>(headers: &HeaderMap, host: Option<&str>, path: &'p str) -> Result<(&'static Service, &'p str), CallError> {
    if let Some(named) = headers.get(PREFIX_HEADER) {
        let named = named.to_str().ok().and_then(|prefix| Service::by_prefix(prefix.trim())).ok_or(CallError::UnknownPrefix)?;
        // A client may say it twice: in the header and in its endpoint URL.
        let path = split_prefix(path).filter(|(service, _)| *service == named).map_or(path, |(_, rest)| rest);
        return Ok((named, path));
    }
    if let Some(chosen) = split_prefix(path) {
        return Ok(chosen);
    }
    let by_path = by_first_segment(path);
    let service = host
        .and_then(by_host)
        // A gateway is likely to be called `bedrock.example.com` and to be used as the runtime's endpoint: the paths of the two are apart.
        .map(|service| if service == Service::BEDROCK { by_path.unwrap_or(service) } else { service })
        .or_else(|| by_scope(headers))
        .or_else(|| by_target(headers))
        .or(by_path)
        .ok_or(CallError::UnknownService)?;
    Ok((service, path))
}

/// `/bedrock-agent-runtime/agents/…` is `/agents/…` of that service.
fn split_prefix(path: &str) -> Option<(&'static Service, &str)> {
    let after = path.strip_prefix('/')?;
    let end = after.find('/').unwrap_or(after.len());
    let (first, rest) = after.split_at_checked(end)?;
    let service = Service::by_prefix(first)?;
    Some((service, if rest.is_empty() { "/" } else { rest }))
}

fn by_host(host: &str) -> Option<&'static Service> {
    let label = host.split(['.', ':']).next()?;
    Service::by_prefix(label.strip_suffix("-fips").unwrap_or(label))
}

/// The credential scope of the caller's own signature (`…/region/service/aws4_request`), where only one service signs under that name.
fn by_scope(headers: &HeaderMap) -> Option<&'static Service> {
    let authorization = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let scope = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?.split_once("Credential=")?.1;
    let signing_name = scope.split([',', ' ']).next()?.split('/').nth(3)?;
    [Service::BEDROCK_MANTLE, Service::NOVA_ACT].into_iter().find(|service| service.signing_name == signing_name)
}

/// The JSON 1.1 protocol names its service in a header, and its path is always `/`.
fn by_target(headers: &HeaderMap) -> Option<&'static Service> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    target.starts_with("AmazonBedrockKeystoneRuntimeService.").then_some(Service::BEDROCK_DATA_AUTOMATION_RUNTIME)
}

fn by_first_segment(path: &str) -> Option<&'static Service> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    if RUNTIME_SEGMENTS.contains(&first) {
        Some(Service::BEDROCK_RUNTIME)
    } else if CONTROL_SEGMENTS.contains(&first) {
        Some(Service::BEDROCK)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn chosen(headers: &[(&'static str, &str)], host: &str, path: &str) -> Result<(&'static str, String), CallError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        choose(&map, Some(host), path).map(|(service, path)| (service.prefix, path.to_owned()))
    }

    #[test]
    fn the_header_wins_over_everything_in_any_case() {
        let header = [("aws-endpoint-prefix", "Bedrock-Agent-Runtime")];
        assert_eq!(chosen(&header, "bedrock.us-east-1.amazonaws.com", "/model/x").unwrap(), ("bedrock-agent-runtime", "/model/x".into()));
        assert_eq!(chosen(&header, "gw", "/bedrock-agent-runtime/agents/").unwrap(), ("bedrock-agent-runtime", "/agents/".into()));
        assert_eq!(chosen(&[("aws-endpoint-prefix", "s3")], "gw", "/model/x"), Err(CallError::UnknownPrefix));
    }

    #[test]
    fn a_first_path_segment_that_is_a_service_is_taken_off() {
        assert_eq!(chosen(&[], "gw", "/bedrock-agent/agents/a%2Fb/").unwrap(), ("bedrock-agent", "/agents/a%2Fb/".into()));
        assert_eq!(chosen(&[], "gw", "/bedrock-data-automation-runtime").unwrap(), ("bedrock-data-automation-runtime", "/".into()));
    }

    #[test]
    fn a_host_that_begins_with_a_service_names_it() {
        assert_eq!(chosen(&[], "bedrock-agentcore.gw.example:8443", "/runtimes/x").unwrap().0, "bedrock-agentcore");
        assert_eq!(chosen(&[], "bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "/new-thing").unwrap().0, "bedrock-runtime");
        assert_eq!(chosen(&[], "bedrock.us-east-1.amazonaws.com", "/new-thing").unwrap().0, "bedrock");
    }

    #[test]
    fn a_gateway_called_bedrock_still_serves_the_runtime() {
        assert_eq!(chosen(&[], "bedrock.example.com", "/model/x/converse").unwrap().0, "bedrock-runtime");
        assert_eq!(chosen(&[], "bedrock.example.com", "/foundation-models").unwrap().0, "bedrock");
    }

    #[test]
    fn a_signature_scope_that_is_enough_names_it() {
        let scope = |name: &str| format!("AWS4-HMAC-SHA256 Credential=AKID/20260115/us-east-1/{name}/aws4_request, SignedHeaders=host");
        assert_eq!(chosen(&[("authorization", &scope("bedrock-mantle"))], "gw", "/v1/models").unwrap().0, "bedrock-mantle");
        assert_eq!(chosen(&[("authorization", &scope("bedrock"))], "gw", "/agents/x"), Err(CallError::UnknownService));
    }

    #[test]
    fn the_path_alone_tells_the_runtime_from_the_control_plane() {
        assert_eq!(chosen(&[], "gw", "/model/m/invoke").unwrap().0, "bedrock-runtime");
        assert_eq!(chosen(&[], "gw", "/inference-profiles").unwrap().0, "bedrock");
        assert_eq!(
            chosen(&[("x-amz-target", "AmazonBedrockKeystoneRuntimeService.X")], "gw", "/").unwrap().0,
            "bedrock-data-automation-runtime"
        );
        assert_eq!(chosen(&[], "gw", "/agents/x"), Err(CallError::UnknownService));
        assert_eq!(chosen(&[], "gw", "/"), Err(CallError::UnknownService));
    }
}
