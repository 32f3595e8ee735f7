//! `/auth/introspection`.

use super::{
    binding::thumbprint,
    dpop::ALGORITHMS,
    error::result,
    proofs::Unproven,
    service::{Service, State},
    store::{Record, random},
};
use crate::api::{IntrospectionAction, IntrospectionRequest, IntrospectionResponse};

/// Why a token does not pass: what the answer says of it.
struct Failure {
    action: IntrospectionAction,
    code: &'static str,
    /// The scheme of the challenge.
    scheme: &'static str,
    error: &'static str,
    message: &'static str,
    /// Further parameters of the challenge.
    params: String,
}

impl Failure {
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

    /// A failure of DPoP (RFC 9449 §7.1).
    fn unbound(code: &'static str, message: &'static str) -> Self {
        let params = format!(",algs=\"{ALGORITHMS}\"");
        Self { scheme: "DPoP", params, ..Self::unauthorized(code, message) }
    }
}

impl From<Unproven> for Failure {
    fn from(Unproven { error, message }: Unproven) -> Self {
        Self { error, ..Self::unbound("A057311", message) }
    }
}

impl Service {
    pub(super) fn introspection(&self, request: &IntrospectionRequest) -> IntrospectionResponse {
        let Some(token) = request.token.as_ref().filter(|token| !token.is_empty()) else {
            let action = IntrospectionAction::BadRequest;
            let message = "The request has no access token.";
            return failed(&Failure::new(action, "A057201", "invalid_request", message), None);
        };
        let mut state = self.state();
        let Some(record) = state.store.by_access(token.expose()).cloned() else {
            return failed(
                &Failure::unauthorized("A057301", "The access token does not exist."),
                None,
            );
        };
        if record.is_expired(self.now()) {
            // Its refresh token lives on.
            if record.is_refreshable(self.now()) {
                state.store.replace(Record { access: random(), ..record });
            } else {
                state.store.remove(record.id);
            }
            let failure = Failure::unauthorized("A057302", "The access token has expired.");
            return failed(&failure, None);
        }
        let facts = self.facts(&record);
        let response = match self.check(request, &record, &mut state) {
            Ok(()) => ok(facts),
            Err(failure) => failed(&failure, Some(facts)),
        };
        let tells = response.action == IntrospectionAction::Ok || request.dpop.is_some();
        let dpop_nonce = state.proofs.nonce().filter(|_| tells);
        IntrospectionResponse { dpop_nonce, ..response }
    }

    fn check(
        &self,
        request: &IntrospectionRequest,
        record: &Record,
        state: &mut State,
    ) -> Result<(), Failure> {
        self.bound_to_key(request, record, state)?;
        bound_to_certificate(request, record)?;
        self.scopes_suffice(request, record)?;
        if request.subject.is_some() && request.subject != record.subject {
            let action = IntrospectionAction::Forbidden;
            let message = "The subject is not the one the access token is for.";
            return Err(Failure::new(action, "A057305", "invalid_request", message));
        }
        resources_fit(request, record)?;
        self.authentication_suffices(request, record)
    }

    fn bound_to_key(
        &self,
        request: &IntrospectionRequest,
        record: &Record,
        state: &mut State,
    ) -> Result<(), Failure> {
        let (bound, proof) = match (&record.dpop_key_thumbprint, &request.dpop) {
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                return Err(Failure::unbound("A057308", "The access token is bound to no key."));
            }
            (Some(_), None) => {
                return Err(Failure::unbound("A057307", "The access token takes a DPoP proof."));
            }
            (Some(bound), Some(proof)) => (bound, proof),
        };
        let made_for = (request.htm.as_deref(), request.htu.as_deref());
        let proof = self.proof(proof, made_for, request.token.as_ref())?;
        if proof.thumbprint != *bound {
            return Err(Failure::unbound("A057312", "The access token is bound to another key."));
        }
        if request.dpop_nonce_required {
            state.proofs.require_nonce();
        }
        Ok(state.proofs.accept(proof, self.now_seconds())?)
    }

    fn scopes_suffice(
        &self,
        request: &IntrospectionRequest,
        record: &Record,
    ) -> Result<(), Failure> {
        let required: Vec<_> = request.scopes.iter().flatten().cloned().collect();
        // Scopes that the service does not know are dropped: a check of them passes.
        let known = required.iter().filter(|scope| self.supports(scope));
        if known.into_iter().all(|scope| record.scopes.contains(scope)) {
            return Ok(());
        }
        let message = "The access token does not cover the required scopes.";
        let action = IntrospectionAction::Forbidden;
        Err(Failure {
            params: format!(",scope=\"{}\"", required.join(" ")),
            ..Failure::new(action, "A057304", "insufficient_scope", message)
        })
    }

    fn authentication_suffices(
        &self,
        request: &IntrospectionRequest,
        record: &Record,
    ) -> Result<(), Failure> {
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
        Err(Failure { params, ..Failure::new(action, "A057306", error, message) })
    }

    /// What the answer tells of a token.
    fn facts(&self, record: &Record) -> IntrospectionResponse {
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
        // Authlete fills it in on success too.
        response_content: Some("Bearer error=\"invalid_request\"".into()),
        ..facts
    }
}

fn failed(failure: &Failure, facts: Option<IntrospectionResponse>) -> IntrospectionResponse {
    let Failure { action, code, scheme, error, message, params } = failure;
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

fn bound_to_certificate(request: &IntrospectionRequest, record: &Record) -> Result<(), Failure> {
    let Some(bound) = &record.certificate_thumbprint else {
        return Ok(());
    };
    let presented = request.client_certificate.as_deref().and_then(thumbprint);
    if presented.as_ref() == Some(bound) {
        return Ok(());
    }
    Err(Failure::unauthorized("A057309", "The access token is bound to another certificate."))
}

fn resources_fit(request: &IntrospectionRequest, record: &Record) -> Result<(), Failure> {
    let required = request.resources.as_deref().unwrap_or_default();
    if required.iter().all(|resource| record.resources.contains(resource)) {
        return Ok(());
    }
    let action = IntrospectionAction::Forbidden;
    let message = "The access token is not for the required resources.";
    Err(Failure::new(action, "A057310", "invalid_target", message))
}
