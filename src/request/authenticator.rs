//! One request from its credentials to what becomes of it.

use std::sync::Arc;

use http::Request;

use super::{
    admit::admit,
    authorize::{Conditions, authorize, lacks_facts},
    context::AuthContext,
    extract::extract,
    outcome::{Admission, Outcome},
    prove::{begin_with_proof, presented},
    refuse::refuse,
    returned::Admitted,
    settings::{Settings, Variant},
    state::{Begin, RequestState},
};
use crate::{
    credentials::{AccessToken, RequestHead, Scheme},
    introspect::Presented,
    lifecycle::{Admits, PendingExtension},
    proof::{ClientCertificate, Evidence},
    rejection::{Rejection, Renderer},
    store::{Binding, CacheHit, Key, PendingCheck},
    token::TokenInfo,
    verify::{Resolved, Resolving},
};

/// Decides on requests. Routers clone their services for each of them.
pub(crate) struct Authenticator<R> {
    settings: Arc<Settings<R>>,
    variant: Variant,
}

impl<R> Authenticator<R> {
    pub(crate) fn new(settings: Arc<Settings<R>>, variant: Variant) -> Self {
        Self { settings, variant }
    }

    /// Extracts the token of a request, verifies what the request proves, and looks up the token. What is
    /// needed of that later is noted in the state, which is empty before.
    pub(crate) fn begin<B>(&self, request: &Request<B>, state: &mut RequestState) -> Begin {
        let options = &self.settings.options;
        let token = match extract(options, RequestHead::of(request), &mut state.scheme) {
            Ok(Some(token)) => token,
            Ok(None) if self.variant.optional => return Begin::Anonymous,
            Ok(None) => return Begin::refused(Rejection::no_credentials()),
            Err(rejection) => return Begin::refused(rejection),
        };
        if options.proofs.is_per_request(token.scheme) {
            begin_with_proof(&self.settings, self.variant.freshness, request, token, state)
                .unwrap_or_else(Begin::refused)
        } else {
            self.look_up(request, token, state)
        }
    }

    /// Begins a request that proves nothing but its client certificate.
    #[inline]
    fn look_up<B>(
        &self,
        request: &Request<B>,
        token: AccessToken<'_>,
        state: &mut RequestState,
    ) -> Begin {
        let Settings { verifier, lifecycle, options, .. } = &*self.settings;
        let (headers, extensions) = (request.headers(), request.extensions());
        let certificate = match options.proofs.certificate(headers, extensions) {
            Ok(certificate) => certificate,
            Err(rejection) => return Begin::refused(rejection),
        };
        state.certificate = certificate.as_ref().map(ClientCertificate::thumbprint);
        let (key, known) = if self.variant.freshness.fresh {
            (verifier.store.key(token.value), None)
        } else {
            let binding = Binding { key: None, certificate: state.certificate };
            verifier.store.look_up(token.value, binding, verifier.clock.recently())
        };
        state.begin_rotation(lifecycle, token, key, extensions);
        let known = match known {
            Some(known) if !lacks_facts(&self.settings, &known.verdict) => known,
            _ => return self.begin_asking(state, key, token, certificate, None),
        };
        if let CacheHit { verdict: Ok(facts), needs_refresh } = &known
            && (*needs_refresh || !facts.is_complete() || lifecycle.is_extension_due(&key, facts))
        {
            return self.begin_asking(state, key, token, certificate, Some(known));
        }
        Begin::Ready(known.into())
    }

    /// Begins a request about whose token Authlete has to be asked, or may have to be once it is admitted. Not
    /// inlined, so that a usual hit makes no room for it.
    #[inline(never)]
    fn begin_asking(
        &self,
        state: &mut RequestState,
        key: Key,
        token: AccessToken<'_>,
        certificate: Option<ClientCertificate>,
        known: Option<CacheHit>,
    ) -> Begin {
        let evidence = Evidence { certificate, ..Evidence::default() };
        let presented = presented(key, token.text(), &evidence);
        let (presented, since) = state.ask(presented, &self.settings);
        let known = match (known, since) {
            (Some(hit), Some(since)) => since.map(|verdict| CacheHit { verdict, ..hit }),
            (known, _) => known,
        };
        let resolve = |presented| {
            let verifier = self.settings.verifier.clone();
            Begin::Pending(Box::pin(verifier.resolve(presented, self.variant.freshness)))
        };
        known.map_or_else(|| resolve(presented), |known| Begin::Ready(known.into()))
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
        let Resolved { verdict, check, needs_refresh } = resolved;
        let token = match verdict {
            Ok(token) => token,
            Err(rejection) => return self.refuse(request, state, &rejection, None),
        };
        if let Err(rejection) = authorize(&token, certificate, signs, require, verifier) {
            return self.refuse(request, state, &rejection, Some(&token));
        }
        let mut extension = match state.presented_unless_extended() {
            Some(presented) => self.follow(state, presented, &token, needs_refresh, check),
            None => None,
        };
        if let Some(extension) = extension.take_if(|it| it.is_waited_for()) {
            return Outcome::Wait(self.wait(state, token, extension));
        }
        let Self { settings, variant } = self;
        Outcome::Admit(admit(settings, variant.freshness, request, state, token, extension))
    }

    #[inline(never)]
    fn refuse<B, ResB>(
        &self,
        request: &Request<B>,
        state: &RequestState,
        rejection: &Rejection,
        token: Option<&TokenInfo>,
    ) -> Outcome<ResB>
    where
        R: Renderer<ResB>,
    {
        Outcome::Refuse(refuse(&self.settings, request, state.scheme, rejection, token))
    }

    /// What follows from the authorization of a request that is more than a usual hit: its token is
    /// revalidated, if the end of its age is near, and may be due for an extension.
    #[inline(never)]
    fn follow(
        &self,
        state: &RequestState,
        presented: &Arc<Presented>,
        token: &TokenInfo,
        needs_refresh: bool,
        check: Option<Arc<PendingCheck>>,
    ) -> Option<Box<PendingExtension>> {
        let Settings { verifier, lifecycle, .. } = &*self.settings;
        let presented = verifier.by_current_value(presented);
        if check.is_some() {
            lifecycle.see(&presented.key);
        }
        let lease = check.as_ref().map(|check| check.lease().clone()).or_else(|| state.lease());
        let revalidates = needs_refresh && verifier.remote.availability().allows_revalidation();
        let check =
            check.or_else(|| revalidates.then(|| verifier.revalidate(&presented)).flatten());
        lifecycle.extension(token, presented, check, lease, || self.admits(state)).map(Box::new)
    }

    /// Whether the layer would admit the request by other facts of its token.
    fn admits(&self, state: &RequestState) -> Admits {
        let signs = self.settings.options.proofs.signs_responses();
        let conditions = Conditions::new(&self.settings, state.certificate, signs);
        let verifier = self.settings.verifier.clone();
        Box::new(move |token| conditions.authorize(&token, &verifier).is_ok())
    }

    /// The verdict on a token once it has been extended.
    #[inline(never)]
    fn wait(
        &self,
        state: &mut RequestState,
        token: TokenInfo,
        extension: Box<PendingExtension>,
    ) -> Resolving {
        let details = state.details();
        details.extended = true;
        let verifier = self.settings.verifier.clone();
        let deadline = details.deadline.unwrap_or_else(|| verifier.extension_deadline());
        Box::pin(async move {
            let presented = extension.presented.clone();
            let verdict = match extension.wait(token, deadline).await {
                Some(verdict) => verdict,
                None => verifier.ask_again(&presented).await,
            };
            Resolved::known(verdict)
        })
    }

    /// Admits a request without a token.
    pub(crate) fn admit_anonymous<B, ResB: 'static>(
        &self,
        request: &mut Request<B>,
    ) -> Admission<ResB>
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, renderer, .. } = &*self.settings;
        verifier.refuser.add_renderer::<ResB>(renderer);
        AuthContext::insert_anonymous(request.extensions_mut(), verifier);
        let admitted = Admitted::new(&verifier.refuser, None, Scheme::Bearer, &**renderer, request);
        Admission { admitted: Some(admitted), then: None }
    }
}

impl<R> Clone for Authenticator<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), variant: self.variant }
    }
}
