//! Calls: routing, authentication of the caller, decoding, dispatch.

use bytes::Bytes;
use headers::{
    Authorization, HeaderMapExt,
    authorization::{Basic, Bearer},
};
use http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    faults::Api,
    response::{EmulatorResponse, call_error, no_content, refused, success, undecodable},
    service::EmulatedService,
};
use crate::api::ApiVersion;

/// The largest body (bytes) that is read.
const MAX_BODY: usize = 1024 * 1024;

/// The API that a path names, and the rest of the path.
pub(super) fn route(service: &EmulatedService, path: &str) -> Option<(Api, String)> {
    let path = path.strip_prefix("/api")?;
    let path = match service.version {
        ApiVersion::V3 => {
            let rest = path.strip_prefix('/')?;
            &rest[rest.find('/')?..]
        }
        ApiVersion::V2 => path,
    };
    let delete = path.strip_prefix(Api::TokenDelete.path()).and_then(|rest| rest.strip_prefix('/'));
    if let Some(rest) = delete {
        return Some((Api::TokenDelete, percent_decode_str(rest).decode_utf8_lossy().into()));
    }
    Api::ALL.into_iter().find(|api| api.path() == path).map(|api| (api, String::new()))
}

/// The refusal of a caller that is not the service.
fn refuse_unauthenticated(
    service: &EmulatedService,
    path: &str,
    headers: &HeaderMap,
) -> Option<EmulatorResponse> {
    let (missing, known) = match service.version {
        ApiVersion::V3 => {
            let presented = headers.typed_get::<Authorization<Bearer>>();
            let known = presented.as_ref().is_some_and(|it| it.token() == service.access_token);
            (presented.is_none(), known)
        }
        ApiVersion::V2 => {
            let presented = headers.typed_get::<Authorization<Basic>>();
            let known = presented.as_ref().is_some_and(|it| {
                it.username() == service.id && it.password() == service.api_secret
            });
            (presented.is_none(), known)
        }
    };
    if missing {
        let message = "The Authorization header is missing or malformed.";
        return Some(refused(StatusCode::UNAUTHORIZED, "A001202", message));
    }
    if !known {
        return Some(refused(StatusCode::UNAUTHORIZED, "A001206", "The credentials are wrong."));
    }
    let named = path.split('/').nth(2).unwrap_or_default();
    let named = percent_decode_str(named).decode_utf8_lossy();
    let foreign = service.version == ApiVersion::V3 && named != service.id.as_str();
    foreign.then(|| {
        let message = "The access token is not for this service.";
        refused(StatusCode::FORBIDDEN, "A001215", message)
    })
}

/// Processes a call without faults.
pub(super) async fn process(
    service: &EmulatedService,
    api: Api,
    rest: &str,
    head: &Parts,
    body: Incoming,
) -> EmulatorResponse {
    if let Some(unauthorized) = refuse_unauthenticated(service, head.uri.path(), &head.headers) {
        return unauthorized;
    }
    let expected = match api {
        Api::TokenDelete => Method::DELETE,
        Api::TokenList => Method::GET,
        _ => Method::POST,
    };
    if head.method != expected {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "A001204", "The method is wrong.");
    }
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return refused(StatusCode::BAD_REQUEST, "A001205", "The body cannot be read.");
    };
    let query = head.uri.query().unwrap_or_default();
    let is_form = is_form(&head.headers);
    ApiCall { api, rest, query, is_form, body: body.to_bytes() }.dispatch(service)
}

/// A call whose caller is authenticated.
struct ApiCall<'c> {
    api: Api,
    /// What follows the path of the API.
    rest: &'c str,
    query: &'c str,
    is_form: bool,
    body: Bytes,
}

impl ApiCall<'_> {
    fn dispatch(&self, service: &EmulatedService) -> EmulatorResponse {
        match self.api {
            Api::Introspection => self.post(|request| service.introspection(request)),
            Api::Token => self.post(|request| service.token(request)),
            Api::TokenIssue => self.post(|request| service.issue(request)),
            Api::TokenFail => self.post(|request| service.fail(request)),
            Api::TokenCreate => self.post(|request| service.create(request)),
            Api::TokenUpdate => self.post(|request| service.update(request)),
            Api::Revocation => self.post(|request| service.revocation(request)),
            Api::TokenRevoke => self.read().map_or_else(undecodable, |request| {
                service.revoke(&request).map_or_else(call_error, |response| success(&response))
            }),
            Api::TokenList => serde_html_form::from_str(self.query).map_or_else(
                |_| undecodable(()),
                |request| {
                    service.list(&request).map_or_else(call_error, |response| success(&response))
                },
            ),
            Api::TokenDelete => {
                service.delete(self.rest).map_or_else(call_error, |()| no_content())
            }
        }
    }

    fn post<Q: DeserializeOwned, A: Serialize>(
        &self,
        respond: impl FnOnce(&Q) -> A,
    ) -> EmulatorResponse {
        self.read().map_or_else(undecodable, |request| success(&respond(&request)))
    }

    fn read_json<Q: DeserializeOwned>(&self) -> serde_json::Result<Q> {
        if self.api != Api::Token {
            return serde_json::from_slice(&self.body);
        }
        // `properties` is documented as the text of a JSON array. Authlete's SDK sends an array.
        let mut json: Value = serde_json::from_slice(&self.body)?;
        if let Some(list @ Value::Array(_)) = json.get_mut("properties") {
            *list = list.to_string().into();
        }
        serde_json::from_value(json)
    }

    fn read<Q: DeserializeOwned>(&self) -> Result<Q, ()> {
        if !self.is_form {
            return self.read_json().map_err(drop);
        }
        let pairs: Vec<(String, String)> = serde_html_form::from_bytes(&self.body).map_err(drop)?;
        // Forms cannot carry extra properties, except as the text that `/auth/token` takes.
        let pairs =
            pairs.into_iter().filter(|(key, _)| key != "properties" || self.api == Api::Token);
        let pairs: Vec<_> = pairs.flat_map(|(key, value)| split(key, value)).collect();
        let form = serde_html_form::to_string(pairs).map_err(drop)?;
        serde_html_form::from_str(&form).map_err(drop)
    }
}

/// Splits a list, which forms carry as a text separated by spaces.
fn split(key: String, value: String) -> Vec<(String, String)> {
    match key.as_str() {
        "scopes" | "resources" | "acrValues" | "requiredComponents" => {
            value.split_whitespace().map(|item| (key.clone(), item.to_owned())).collect()
        }
        _ => vec![(key, value)],
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
}
