//! One request from its credentials to what becomes of it.

use std::sync::Arc;

use http::{Extensions, Request};

use super::{
    admit::admit,
    authorize::{Conditions, authorize, lacks_facts},
    context::AuthContext,
    extract::extract,
    outcome::Outcome,
    prove::{begin_with_proof, presented},
    refuse::refuse,
    settings::Settings,
    state::{Begin, RequestState},
};
use crate::{
    cache::{Binding, Key, Known},
    credentials::{AccessToken, RequestHead},
    lifecycle::{Admits, PendingExtension},
    proof::{ClientCertificate, Evidence},
    rejection::Renderer,
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

    /// Extracts the token of a request, verifies what the request proves, and looks up the token.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> Begin {
        let (head, extensions) = (RequestHead::of(request), request.extensions());
        let options = &self.settings.options;
        let token = match extract(options, head) {
            Ok(Some(token)) => token,
            Ok(None) => return Begin::Anonymous,
            Err((scheme, rejection)) => return Begin::refused(scheme, rejection),
        };
        if options.proofs.is_per_request(token.scheme) {
            begin_with_proof(&self.settings, self.freshness, head, extensions, token)
                .unwrap_or_else(|rejection| Begin::refused(token.scheme, rejection))
        } else {
            self.look_up(head, extensions, token)
        }
    }

    /// Begins a request that proves nothing but its client certificate.
    #[inline]
    fn look_up(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
        token: AccessToken<'_>,
    ) -> Begin {
        let Settings { verifier, options, .. } = &*self.settings;
        let certificate = match options.proofs.certificate(head.headers, extensions) {
            Ok(certificate) => certificate,
            Err(rejection) => return Begin::refused(token.scheme, rejection),
        };
        let mut state = RequestState::new(token.scheme, certificate.as_ref());
        let (key, known) = if self.freshness.fresh {
            (verifier.key(token.value), None)
        } else {
            let binding = Binding { key: None, certificate: state.certificate };
            verifier.look_up(token.value, binding, verifier.clock.recently())
        };
        state.begin_rotation(verifier, token, key, extensions);
        let known = match known {
            Some(known) if !lacks_facts(&self.settings, &known.answer) => known,
            _ => return self.ask(state, key, token, certificate),
        };
        if let Known { answer: Ok(facts), ends } = &known
            && verifier.needs_presenting(&key, facts, *ends)
        {
            let evidence = Evidence { certificate, ..Evidence::default() };
            state.details().presented = Some(Arc::new(presented(key, token.value, &evidence)));
        }
        Begin::Ready(state, known.into())
    }

    /// Begins a request about whose token Authlete has to be asked. Not inlined, so that a hit makes no
    /// room for it.
    #[inline(never)]
    fn ask(
        &self,
        mut state: RequestState,
        key: Key,
        token: AccessToken<'_>,
        certificate: Option<ClientCertificate>,
    ) -> Begin {
        let verifier = &self.settings.verifier;
        let evidence = Evidence { certificate, ..Evidence::default() };
        let presented = state.ask(presented(key, token.value, &evidence), verifier);
        let verdict = verifier.clone().resolve(presented, self.freshness);
        Begin::Pending(state, Box::pin(verdict))
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
        let Resolved { answer, call, needs_refresh } = resolved;
        let verdict =
            answer.and_then(|token| authorize(token, certificate, signs, require, verifier));
        let token = match verdict {
            Ok(token) => token,
            Err(rejection) => {
                return Outcome::Refuse(refuse(&self.settings, request, state.scheme, &rejection));
            }
        };
        let extension = match state.presented_unless_extended() {
            Some(presented) => {
                let admits = || self.admits(state);
                verifier.follow(presented, &token, needs_refresh, call, admits)
            }
            None => None,
        };
        match extension {
            Some(extension) if verifier.waits_for_extensions() => {
                Outcome::Wait(self.wait(state, token, extension))
            }
            it => Outcome::Admit(admit(&self.settings, self.freshness, request, state, token, it)),
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
        let Settings { verifier, renderer, .. } = &*self.settings;
        verifier.guard.renders::<ResB>(renderer);
        AuthContext::insert_anonymous(request.extensions_mut(), verifier);
    }
}

impl<R> Clone for Authenticator<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), freshness: self.freshness }
    }
}
