//! One request from its credentials to what becomes of it.

use std::sync::Arc;

use http::{Extensions, Request};

use super::{
    admit::{admit, admit_anonymous},
    authorize::{Conditions, authorize, lacks_facts},
    extract::extract,
    outcome::Outcome,
    prove::{begin_with_proof, presented},
    refuse::refuse,
    settings::Settings,
    state::{Begin, RequestState},
};
use crate::{
    cache::{Binding, Known},
    credentials::{AccessToken, RequestHead, Scheme},
    lifecycle::{Admits, PendingExtension},
    proof::{ClientCertificate, Evidence},
    rejection::{Rejection, Renderer},
    token::TokenInfo,
    verifier::{Freshness, Resolved, Resolving},
};

/// Decides on requests. Routers clone their services for each of them.
pub(crate) struct Authenticator<R> {
    settings: Arc<Settings<R>>,
    freshness: Freshness,
}

impl<R> Authenticator<R> {
    pub(crate) fn new(settings: Arc<Settings<R>>, freshness: Freshness) -> Self {
        Self { settings, freshness }
    }

    /// Extracts the credentials of a request, verifies what it proves, and begins to look up its token.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> Begin {
        self.try_begin(RequestHead::of(request), request.extensions()).unwrap_or_else(
            |(scheme, rejection)| {
                Begin::Ready(RequestState::refused(scheme), Resolved::known(Err(rejection)))
            },
        )
    }

    #[inline]
    fn try_begin(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
    ) -> Result<Begin, (Scheme, Rejection)> {
        let options = &self.settings.options;
        let Some(token) = extract(options, head)? else { return Ok(Begin::Anonymous) };
        let begun = if options.proofs.is_per_request(token.scheme) {
            begin_with_proof(&self.settings, self.freshness, head, extensions, token)
        } else {
            self.begin_by_facts(head, extensions, token)
        };
        begun.map_err(|rejection| (token.scheme, rejection))
    }

    /// Begins a request that proves nothing but its client certificate.
    #[inline]
    fn begin_by_facts(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
        token: AccessToken<'_>,
    ) -> Result<Begin, Rejection> {
        let Settings { verifier, options, .. } = &*self.settings;
        let certificate = options.proofs.certificate(head.headers, extensions)?;
        let thumbprint = certificate.as_ref().map(ClientCertificate::thumbprint);
        let (key, known) = if self.freshness.fresh {
            (verifier.key(token.value), None)
        } else {
            let binding = Binding { key: None, certificate: thumbprint };
            verifier.look_up(token.value, binding, verifier.clock.recently())
        };
        let mut state = RequestState::new(verifier, token, key, certificate.as_ref(), extensions);
        let presented = || {
            let evidence = Evidence { certificate, ..Evidence::default() };
            presented(key, token.value, &evidence)
        };
        let known = known.filter(|known| !lacks_facts(&self.settings, &known.answer));
        let Some(known) = known else {
            let presented = state.ask(presented(), verifier);
            let verdict = verifier.clone().resolve(presented, self.freshness);
            return Ok(Begin::Pending(state, Box::pin(verdict)));
        };
        if let Known { answer: Ok(token), ends } = &known
            && verifier.needs_presenting(&key, token, *ends)
        {
            state.details().presented = Some(Arc::new(presented()));
        }
        Ok(Begin::Ready(state, known.into()))
    }

    /// Authorizes a request by the verdict on its token, and admits or refuses it.
    pub(crate) fn decide<B, ResB: 'static>(
        &self,
        request: &mut Request<B>,
        state: &mut RequestState,
        resolved: Resolved,
    ) -> Outcome<ResB>
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, options, .. } = &*self.settings;
        let (certificate, signs) = (state.certificate.as_ref(), options.proofs.signs_responses());
        let require = options.require.as_ref();
        let allow = |token| authorize(token, certificate, signs, require, verifier);
        let Resolved { answer, call, needs_refresh } = resolved;
        let token = match answer.and_then(allow) {
            Ok(token) => token,
            Err(rejection) => {
                return Outcome::Refuse(refuse(&self.settings, request, state.scheme, &rejection));
            }
        };
        let details = state.details.as_deref().filter(|details| !details.extended);
        let presented = details.and_then(|details| details.presented.as_ref());
        let extension = presented.and_then(|presented| {
            let admits = || self.admits(state);
            verifier.follow(presented, &token, needs_refresh, call, admits)
        });
        match extension {
            Some(extension) if verifier.waits_for_extensions() => {
                Outcome::Wait(self.wait(state, token, extension))
            }
            _ => Outcome::Admit(admit(
                &self.settings,
                self.freshness,
                request,
                state,
                token,
                extension,
            )),
        }
    }

    /// Whether the layer would admit the request by other facts of its token.
    fn admits(&self, state: &RequestState) -> Admits {
        let signs = self.settings.options.proofs.signs_responses();
        let conditions = Conditions::new(&self.settings, state.certificate, signs);
        let verifier = self.settings.verifier.clone();
        Box::new(move |token| conditions.authorize(token, &verifier).is_ok())
    }

    /// The verdict on a token once it has been extended.
    fn wait(
        &self,
        state: &mut RequestState,
        token: TokenInfo,
        extension: PendingExtension,
    ) -> Resolving {
        let details = state.details();
        details.extended = true;
        let begun_now = || self.settings.verifier.caller.deadline_of_extension();
        let deadline = details.deadline.unwrap_or_else(begun_now);
        Box::pin(async move { Resolved::known(extension.wait(token, deadline).await) })
    }

    /// Admits a request without a token.
    pub(crate) fn admit_anonymous<B, ResB: 'static>(&self, request: &mut Request<B>)
    where
        R: Renderer<ResB>,
    {
        admit_anonymous(&self.settings, request);
    }
}

impl<R> Clone for Authenticator<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), freshness: self.freshness }
    }
}
