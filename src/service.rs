//! The way of a request: what it presents, who that is, whether they may, and on.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::SystemTime,
};

use http::{
    HeaderName, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tower_service::Service;

use crate::{
    api::IntrospectionRequest,
    cache::{Holder, Known, Thumbprint},
    credentials::{self, RequestHead, Scheme},
    future::{After, Asking, AuthFuture, Decision, Finish, Waiting},
    layer::Settings,
    policy::Require,
    rejection::{Guard, Rejection, Renderer},
    rotate::Turn,
    token::TokenInfo,
    verdict::Answer,
    verifier::{Presented, Verifier},
};

/// RFC 9449 §8.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The service of [`AuthLayer`](crate::AuthLayer).
pub struct AuthService<S, R> {
    inner: S,
    gate: Gate<R>,
}

/// Decides about requests. Routers clone their services for each of them.
struct Gate<R>(Arc<Parts<R>>);

struct Parts<R> {
    settings: Arc<Settings<R>>,
    fresh: bool,
    /// Done at the first request, when the body of responses is known.
    renders: OnceLock<()>,
}

impl<R> Deref for Gate<R> {
    type Target = Parts<R>;

    fn deref(&self) -> &Parts<R> {
        &self.0
    }
}

/// What is to be done with a request whose credentials have been looked at.
enum Way {
    /// It needs no token.
    Pass,
    /// All there is to know is known.
    Decide(Shown, Answer),
    Ask(Shown, Asking, Sent),
}

/// What a request showed beside its token.
#[derive(Clone, Copy)]
struct Shown {
    scheme: Scheme,
    certificate: Option<Thumbprint>,
    /// Whether Authlete was asked with its proof.
    sent: bool,
    /// When it was looked at.
    now: SystemTime,
}

/// Becomes true if Authlete is asked with a request's proof.
pub(crate) type Sent = Arc<AtomicBool>;

impl<S, R> AuthService<S, R> {
    pub(crate) fn new(inner: S, settings: Arc<Settings<R>>, fresh: bool) -> Self {
        Self { inner, gate: Gate(Arc::new(Parts { settings, fresh, renders: OnceLock::new() })) }
    }
}

impl<S, R, B, ResB> Service<Request<B>> for AuthService<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    R: Renderer<ResB>,
    B: 'static,
    ResB: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AuthFuture<S, B, ResB>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let decision = match self.gate.way(&request) {
            Way::Pass => {
                self.gate.pass(&mut request);
                Ok(None)
            }
            Way::Decide(shown, answer) => self.gate.decide(&mut request, shown, answer),
            Way::Ask(shown, asking, sent) => {
                // It is this service that was polled ready, so it is the one to be called; a clone
                // takes its place. See tower's documentation of `Service`, "Be careful when cloning
                // inner services".
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                let gate = self.gate.clone();
                let decide = Box::new(move |request: &mut Request<B>, answer| {
                    let (sent, now) = (sent.load(Ordering::Acquire), gate.now());
                    gate.decide(request, Shown { sent, now, ..shown }, answer)
                });
                return AuthFuture::asking(asking, Waiting { request, service, decide });
            }
        };
        AuthFuture::decided(decision, request, &mut self.inner)
    }
}

impl<R> Gate<R> {
    fn way<B>(&self, request: &Request<B>) -> Way {
        self.try_way(request).unwrap_or_else(|(scheme, rejection)| {
            let shown = Shown { scheme, certificate: None, sent: false, now: self.now() };
            Way::Decide(shown, Err(rejection))
        })
    }

    fn now(&self) -> SystemTime {
        self.settings.verifier.clock.now()
    }

    fn try_way<B>(&self, request: &Request<B>) -> Result<Way, (Scheme, Rejection)> {
        let Settings { verifier, options, .. } = &*self.settings;
        let head = RequestHead::of(request);
        let bearer = |rejection| (Scheme::Bearer, rejection);
        let found = credentials::find(&options.sources, head, options.max_token_length);
        let (scheme, token) = match found.map_err(bearer)? {
            Some(found) => found,
            None if options.optional => return Ok(Way::Pass),
            None => return Err(bearer(Rejection::no_credentials())),
        };
        let refuse = |rejection| (scheme, rejection);
        if !self.accepts(scheme) {
            return Err(refuse(Rejection::no_credentials()));
        }
        if options.precheck.as_ref().is_some_and(|fits| !fits(token)) {
            let description = "the access token is none of this service";
            return Err(refuse(Rejection::invalid_token(description)));
        }
        let certificate = match &options.certificates {
            Some(certificates) => certificates
                .find(head.headers, request.extensions())
                .map_err(|malformed| refuse(Rejection::invalid_request(malformed)))?,
            None => None,
        };
        let thumbprint = certificate.as_ref().map(|certificate| certificate.thumbprint());
        let now = verifier.clock.recently();
        let shown = Shown { scheme, certificate: thumbprint, sent: false, now };
        let holder = Holder { key: None, certificate: thumbprint };
        let presented = |key| {
            let mut request = IntrospectionRequest::new().token(token);
            request.client_certificate = certificate.as_ref().map(|it| it.to_pem());
            Presented { key, holder, request }
        };
        if scheme == Scheme::Dpop || options.signatures.is_some() {
            // Authlete has just been asked by the layer outside, and would take the same proof for a
            // replay.
            let proven = request.extensions().get::<Proven>();
            let proven = proven.filter(|proven| proven.is_by(verifier));
            if let (Some(Proven { sent: true, .. }), Some(known)) =
                (proven, request.extensions().get::<TokenInfo>())
            {
                return Ok(Way::Decide(Shown { sent: true, ..shown }, Ok(known.clone())));
            }
            let sent = Sent::default();
            let proven = proven.is_some();
            let presented = presented(verifier.key(token));
            let asking = self.prove(request, scheme, presented, proven, &sent);
            let asking = asking.map_err(refuse)?;
            return Ok(Way::Ask(shown, asking, sent));
        }
        let (key, known) = match self.fresh {
            true => (verifier.key(token), None),
            false => verifier.look_up(token, holder, now),
        };
        match known {
            Some(Known { answer, ends }) if !self.lacks_facts(&answer, now) => {
                if let Ok(known) = &answer
                    && known.is_bound_to(thumbprint.as_ref())
                {
                    verifier.keep_alive(&key, known, ends, now, || presented(key));
                }
                Ok(Way::Decide(shown, answer))
            }
            _ => {
                let asking = Box::pin(verifier.clone().ask(presented(key), self.fresh));
                Ok(Way::Ask(shown, asking, Sent::default()))
            }
        }
    }

    /// Whether tokens may be presented in this way.
    fn accepts(&self, scheme: Scheme) -> bool {
        let challenges = &self.settings.options.challenges;
        match scheme {
            Scheme::Bearer => !challenges.only_dpop,
            Scheme::Dpop => challenges.algorithms.is_some(),
        }
    }

    /// What has to be looked at for every request anew: its proof, its signature.
    fn prove<B>(
        &self,
        request: &Request<B>,
        scheme: Scheme,
        mut presented: Presented,
        proven: bool,
        sent: &Sent,
    ) -> Result<Asking, Rejection> {
        let Settings { verifier, options, .. } = &*self.settings;
        let head = RequestHead::of(request);
        let unplaced = |problem| {
            tracing::error!(
                problem,
                "the URL of a request is not known; check the origin's settings"
            );
            Rejection::misconfigured("this server does not know its own URL")
        };
        let mut fresh = self.fresh;
        if let Some(signatures) = &options.signatures {
            let (version, extensions) = (request.version(), request.extensions());
            presented.request = signatures
                .describe(head, version, extensions, presented.request)
                .map_err(unplaced)?;
            fresh = true;
        }
        #[cfg(feature = "dpop")]
        if let Some(prover) = options.dpop.as_ref().filter(|_| scheme == Scheme::Dpop) {
            let url = prover.settings.origin().url(head, request.extensions()).map_err(unplaced)?;
            let proof = credentials::proof(head.headers)?;
            presented.request = presented.request.dpop(proof).htm(head.method.as_str()).htu(url);
            let (verifier, prover, sent) = (verifier.clone(), prover.clone(), sent.clone());
            return Ok(Box::pin(verifier.ask_with_proof(prover, presented, fresh, proven, sent)));
        }
        let _ = (scheme, proven, sent);
        Ok(Box::pin(verifier.clone().ask(presented, fresh)))
    }

    /// Whether a token that was issued here does not meet the layer's requirement by what is known
    /// of it without having asked, so that it has to be asked about.
    fn lacks_facts(&self, known: &Answer, now: SystemTime) -> bool {
        let Ok(token) = known else { return false };
        let options = &self.settings.options;
        let unmet = |require: &Require| require.check(token, now).is_err();
        !token.is_complete() && options.require.as_ref().is_some_and(unmet)
    }

    /// What the inside needs to refuse in the same way.
    fn guard<ResB: 'static>(&self) -> &Guard
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, renderer, .. } = &*self.settings;
        self.renders.get_or_init(|| verifier.guard.renders::<ResB>(renderer.clone()));
        &verifier.guard
    }

    /// Lets a request without a token pass.
    fn pass<B, ResB: 'static>(&self, request: &mut Request<B>)
    where
        R: Renderer<ResB>,
    {
        let guard = self.guard::<ResB>().clone();
        request.extensions_mut().insert(guard);
    }

    /// Gives the request the token's facts, or makes the response that refuses it.
    fn decide<B, ResB: 'static>(
        &self,
        request: &mut Request<B>,
        shown: Shown,
        answer: Answer,
    ) -> Decision<ResB>
    where
        R: Renderer<ResB>,
    {
        let token = match answer.and_then(|token| self.allow(shown, token)) {
            Ok(token) => token,
            Err(rejection) => {
                rejection.note();
                return Err(self.refuse(request, shown, &rejection));
            }
        };
        let after = self.after(request, shown, &token);
        let options = &self.settings.options;
        let proofs = options.challenges.algorithms.is_some();
        credentials::conceal(&options.sources, proofs, request.headers_mut(), options.strip);
        if shown.scheme == Scheme::Dpop {
            request.extensions_mut().insert(shown.scheme);
            let verifier = self.settings.verifier.clone();
            request.extensions_mut().insert(Proven { verifier, sent: shown.sent });
        }
        self.guard::<ResB>();
        token.insert_into(request.extensions_mut(), options.token_info_alone);
        Ok(after)
    }

    /// Whether a good token may be used by who shows this, for this.
    fn allow(&self, shown: Shown, token: TokenInfo) -> Answer {
        let options = &self.settings.options;
        if !token.is_bound_to(shown.certificate.as_ref()) {
            let description = "the access token is bound to another client certificate";
            return Err(Rejection::invalid_token(description));
        }
        let signs = options.signatures.as_ref().is_some_and(|signatures| signatures.has_signer());
        if token.needs_signed_response() && !signs {
            tracing::error!(
                "an access token takes signed responses, but there is no signer; give one by \
                 `MessageSignatures::signer`"
            );
            return Err(Rejection::misconfigured("responses cannot be signed here"));
        }
        let require = options.require.as_ref();
        require.map_or(Ok(()), |require| require.check(&token, shown.now))?;
        Ok(token)
    }

    fn refuse<B, ResB>(
        &self,
        request: &Request<B>,
        shown: Shown,
        rejection: &Rejection,
    ) -> Response<ResB>
    where
        R: Renderer<ResB>,
    {
        let Settings { options, renderer, .. } = &*self.settings;
        let mut head = rejection.head(request.headers(), &options.challenges, shown.scheme);
        head.headers_mut().extend(self.nonce(shown).map(|nonce| (Some(DPOP_NONCE), nonce)));
        renderer.render(rejection, head)
    }

    /// The nonce that the client has to use next, if there is one.
    fn nonce(&self, shown: Shown) -> Option<HeaderValue> {
        #[cfg(feature = "dpop")]
        if shown.scheme == Scheme::Dpop {
            let Settings { verifier, options, .. } = &*self.settings;
            let ours = options.dpop.as_ref()?.nonce(verifier.clock.now());
            return ours.or_else(|| verifier.nonce());
        }
        let _ = shown;
        None
    }

    /// What may have to be done when the request was answered.
    fn after<B, ResB: 'static>(
        &self,
        request: &mut Request<B>,
        shown: Shown,
        info: &TokenInfo,
    ) -> Option<Box<After<ResB>>>
    where
        R: Renderer<ResB>,
    {
        let turn = self.follow_up(request, shown, info);
        let nonce = self.nonce(shown);
        let signs = info.needs_signed_response();
        if turn.is_none() && nonce.is_none() && !signs {
            return None;
        }
        let (settings, info) = (self.settings.clone(), info.clone());
        let content_type = request.headers().get(CONTENT_TYPE).cloned();
        let finish: Finish<ResB> = Box::new(move |mut response| {
            if let Some(nonce) = nonce {
                response.headers_mut().insert(DPOP_NONCE, nonce);
                // RFC 9449 §8.2: a nonce is for one client.
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            match settings.options.signatures.as_ref().filter(|_| signs) {
                Some(signatures) => signatures.sign(&info, response).unwrap_or_else(|error| {
                    let cause = &error as &dyn std::error::Error;
                    tracing::error!(error = cause, "a response could not be signed");
                    let rejection = Rejection::misconfigured("the response could not be signed");
                    let challenges = &settings.options.challenges;
                    let headers = content_type.map(|it| (CONTENT_TYPE, it)).into_iter().collect();
                    let head = rejection.head(&headers, challenges, shown.scheme);
                    settings.renderer.render(&rejection, head)
                }),
                None => response,
            }
        });
        Some(Box::new(After { turn, finish }))
    }

    /// What may have to be done about the token later, for which its value is needed.
    fn follow_up<B>(
        &self,
        request: &mut Request<B>,
        shown: Shown,
        info: &TokenInfo,
    ) -> Option<Turn> {
        let Settings { verifier, options, .. } = &*self.settings;
        if info.is_complete() && verifier.rotator.is_none() {
            return None;
        }
        let head = RequestHead::of(request);
        let found = credentials::find(&options.sources, head, options.max_token_length);
        let (_, token) = found.ok()??;
        // A client that proves possession needs no new values.
        let turn = Turn::due(verifier, token).filter(|_| shown.scheme == Scheme::Bearer);
        if !info.is_complete() {
            let recheck = verifier.recheck(token);
            request.extensions_mut().insert(recheck);
        }
        turn
    }
}

/// In the extensions of a request whose proof a layer has used up, for a layer of the same make inside
/// of it.
#[derive(Clone)]
struct Proven {
    verifier: Arc<Verifier>,
    /// Whether Authlete was asked with the proof.
    sent: bool,
}

impl Proven {
    fn is_by(&self, verifier: &Arc<Verifier>) -> bool {
        Arc::ptr_eq(&self.verifier, verifier)
    }
}

impl<R> Clone for Gate<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Clone, R> Clone for AuthService<S, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: self.gate.clone() }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for AuthService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
