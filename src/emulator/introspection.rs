//! `/auth/introspection`.

use super::{
    binding::thumbprint,
    dpop::ALGORITHMS,
    error::result,
    proofs::ProofError,
    service::{EmulatedService, ServiceState},
    store::{TokenRecord, random},
};
use crate::api::{IntrospectionAction, IntrospectionRequest, IntrospectionResponse};

/// A failed check, as the response reports it.
struct FailedCheck {
    action: IntrospectionAction,
    code: &'static str,
    /// The scheme of the challenge.
    scheme: &'static str,
    error: &'static str,
    message: &'static str,
    /// Further parameters of the challenge.
    params: String,
}

impl FailedCheck {
    fn new(
        action: IntrospectionAction,
        code: &'static str,
        error: &'static str,
        message: &'static str,
    ) -> Self {
        Self { action, code, scheme: "Bearer", error, message, params: String::new() }
    }

    fn unauthorized(code: &'static str, message: &'static str) -> Self {
        Self::new(IntrospectionAction::Unauthorized, code, "invalid_token", message)
    }

    /// A failed DPoP check (RFC 9449 §7.1).
    fn dpop(code: &'static str, message: &'static str) -> Self {
        let params = format!(",algs=\"{ALGORITHMS}\"");
        Self { scheme: "DPoP", params, ..Self::unauthorized(code, message) }
    }
}

impl From<ProofError> for FailedCheck {
    fn from(ProofError { error, message }: ProofError) -> Self {
        Self { error, ..Self::dpop("A057311", message) }
    }
}

impl EmulatedService {
    pub(super) fn introspection(&self, request: &IntrospectionRequest) -> IntrospectionResponse {
        let Some(token) = request.token.as_ref().filter(|token| !token.is_empty()) else {
            let action = IntrospectionAction::BadRequest;
            let message = "The request has no access token.";
            return failed(&FailedCheck::new(action, "A057201", "invalid_request", message), None);
        };
        let mut state = self.state();
        let Some(record) = state.store.by_access(token.expose()).cloned() else {
            return failed(
                &FailedCheck::unauthorized("A057301", "The access token does not exist."),
                None,
            );
        };
        if record.is_expired(self.now()) {
            // The refresh token stays valid.
            if record.is_refreshable(self.now()) {
                state.store.replace(TokenRecord { access: random(), ..record });
            } else {
                state.store.remove(record.id);
            }
            let failure = FailedCheck::unauthorized("A057302", "The access token has expired.");
            return failed(&failure, None);
        }
        let facts = self.facts(&record);
        let response = match self.check(request, &record, &mut state) {
            Ok(()) => ok(facts),
            Err(failure) => failed(&failure, Some(facts)),
        };
        let sends_nonce = response.action == IntrospectionAction::Ok || request.dpop.is_some();
        let dpop_nonce = state.proofs.nonce().filter(|_| sends_nonce);
        IntrospectionResponse { dpop_nonce, ..response }
    }

    fn check(
        &self,
        request: &IntrospectionRequest,
        record: &TokenRecord,
        state: &mut ServiceState,
    ) -> Result<(), FailedCheck> {
        self.check_key_binding(request, record, state)?;
        check_certificate_binding(request, record)?;
        self.check_scopes(request, record)?;
        if request.subject.is_some() && request.subject != record.subject {
            let action = IntrospectionAction::Forbidden;
            let message = "The subject is not the one the access token is for.";
            return Err(FailedCheck::new(action, "A057305", "invalid_request", message));
        }
        check_resources(request, record)?;
        self.check_authentication(request, record)
    }

    fn check_key_binding(
        &self,
        request: &IntrospectionRequest,
        record: &TokenRecord,
        state: &mut ServiceState,
    ) -> Result<(), FailedCheck> {
        let (bound, proof) = match (&record.dpop_key_thumbprint, &request.dpop) {
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                return Err(FailedCheck::dpop("A057308", "The access token is bound to no key."));
            }
            (Some(_), None) => {
                return Err(FailedCheck::dpop("A057307", "The access token takes a DPoP proof."));
            }
            (Some(bound), Some(proof)) => (bound, proof),
        };
        let target = (request.htm.as_deref(), request.htu.as_deref());
        let proof = self.proof(proof, target, request.token.as_ref())?;
        if proof.thumbprint != *bound {
            return Err(FailedCheck::dpop("A057312", "The access token is bound to another key."));
        }
        if request.dpop_nonce_required {
            state.proofs.require_nonce();
        }
        Ok(state.proofs.accept(proof, self.now_seconds())?)
    }

    fn check_scopes(
        &self,
        request: &IntrospectionRequest,
        record: &TokenRecord,
    ) -> Result<(), FailedCheck> {
        let required: Vec<_> = request.scopes.iter().flatten().cloned().collect();
        // Authlete ignores scopes that the service does not support.
        let known = required.iter().filter(|scope| self.supports(scope));
        if known.into_iter().all(|scope| record.scopes.contains(scope)) {
            return Ok(());
        }
        let message = "The access token does not cover the required scopes.";
        let action = IntrospectionAction::Forbidden;
        Err(FailedCheck {
            params: format!(",scope=\"{}\"", required.join(" ")),
            ..FailedCheck::new(action, "A057304", "insufficient_scope", message)
        })
    }

    fn check_authentication(
        &self,
        request: &IntrospectionRequest,
        record: &TokenRecord,
    ) -> Result<(), FailedCheck> {
        let classes = request.acr_values.as_deref().unwrap_or_default();
        let class_fits =
            classes.is_empty() || record.acr.as_ref().is_some_and(|acr| classes.contains(acr));
        let max_age = request.max_age.filter(|age| *age > 0);
        let age_fits = max_age.is_none_or(|age| {
            record.auth_time.is_some_and(|time| self.now() / 1000 <= time.saturating_add(age))
        });
        if class_fits && age_fits {
            return Ok(());
        }
        let mut params = String::new();
        if !classes.is_empty() {
            params = format!(",acr_values=\"{}\"", classes.join(" "));
        }
        if let Some(age) = max_age {
            params += &format!(",max_age=\"{age}\"");
        }
        let action = IntrospectionAction::Unauthorized;
        let message = "The user has to be authenticated again.";
        let error = "insufficient_user_authentication";
        Err(FailedCheck { params, ..FailedCheck::new(action, "A057306", error, message) })
    }

    /// The members of the response about a token.
    fn facts(&self, record: &TokenRecord) -> IntrospectionResponse {
        IntrospectionResponse {
            client_id: Some(record.client_id),
            client_id_alias: Some(self.client.alias.clone()),
            client_id_alias_used: record.alias_used,
            expires_at: Some(record.expires_at),
            subject: record.subject.clone(),
            scopes: record.scopes.clone(),
            existent: true,
            usable: true,
            sufficient: true,
            refreshable: record.is_refreshable(self.now()),
            properties: record.properties.clone(),
            certificate_thumbprint: record.certificate_thumbprint.clone(),
            resources: record.resources.clone(),
            access_token_resources: record.resources.clone(),
            authorization_details: record.authorization_details.clone(),
            scope_details: self.scope_details(&record.scopes),
            for_external_attachment: record.for_external_attachment,
            grant_type: record.grant_type.clone(),
            acr: record.acr.clone(),
            auth_time: record.auth_time,
            response_signing_required: record.response_signing_required,
            ..IntrospectionResponse::default()
        }
    }
}

fn ok(facts: IntrospectionResponse) -> IntrospectionResponse {
    let (result_code, result_message) = result("A056001", "The access token is valid.");
    IntrospectionResponse {
        result_code,
        result_message,
        action: IntrospectionAction::Ok,
        // Authlete sets it on success too.
        response_content: Some("Bearer error=\"invalid_request\"".into()),
        ..facts
    }
}

fn failed(failure: &FailedCheck, facts: Option<IntrospectionResponse>) -> IntrospectionResponse {
    let FailedCheck { action, code, scheme, error, message, params } = failure;
    let (result_code, result_message) = result(code, message);
    let content = format!(
        "{scheme} error=\"{error}\",error_description=\"[{code}] {message}\",\
         error_uri=\"https://docs.authlete.com/#{code}\"{params}"
    );
    IntrospectionResponse {
        result_code,
        result_message,
        action: *action,
        response_content: Some(content),
        sufficient: false,
        ..facts.unwrap_or_default()
    }
}

fn check_certificate_binding(
    request: &IntrospectionRequest,
    record: &TokenRecord,
) -> Result<(), FailedCheck> {
    let Some(bound) = &record.certificate_thumbprint else {
        return Ok(());
    };
    let presented = request.client_certificate.as_deref().and_then(thumbprint);
    if presented.as_ref() == Some(bound) {
        return Ok(());
    }
    Err(FailedCheck::unauthorized("A057309", "The access token is bound to another certificate."))
}

fn check_resources(
    request: &IntrospectionRequest,
    record: &TokenRecord,
) -> Result<(), FailedCheck> {
    let required = request.resources.as_deref().unwrap_or_default();
    if required.iter().all(|resource| record.resources.contains(resource)) {
        return Ok(());
    }
    let action = IntrospectionAction::Forbidden;
    let message = "The access token is not for the required resources.";
    Err(FailedCheck::new(action, "A057310", "invalid_target", message))
}
