//! The way of a request: what it presents, who that is, whether they may, and on.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{
    Extensions, HeaderName, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tower_service::Service;

use crate::{
    cache::{Flight, Holder, Key, Known, Thumbprint},
    credentials::{self, RequestHead, Scheme},
    future::{After, Asking, AuthFuture, Decision, Finish, Waiting},
    layer::Settings,
    meter,
    policy::Require,
    proof::ClientCertificate,
    rejection::{Guard, Rejection, Renderer},
    rotate::Turn,
    token::TokenInfo,
    verdict::Answer,
    verifier::{Asked, Freshness, Presented, Verifier},
};

/// RFC 9449 §8.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The service of [`AuthLayer`](crate::AuthLayer).
pub struct AuthService<S, R> {
    inner: S,
    gate: Gate<R>,
}

/// Decides about requests. Routers clone their services for each of them.
struct Gate<R> {
    settings: Arc<Settings<R>>,
    freshness: Freshness,
}

/// What is to be done with a request whose credentials have been looked at.
enum Way {
    /// It needs no token.
    Pass,
    /// All there is to know is known.
    Decide(Shown, Answer),
    Ask(Shown, Asking),
}

/// What a request presents.
struct Found<'r> {
    scheme: Scheme,
    token: &'r str,
    certificate: Option<ClientCertificate>,
}

impl Found<'_> {
    /// The holder without the key of a proof, which has not been verified yet.
    fn holder(&self) -> Holder {
        let certificate = self.certificate.as_ref().map(ClientCertificate::thumbprint);
        Holder { key: None, certificate }
    }

    fn presented(&self, key: Key) -> Presented {
        let presented = Presented::new(key, self.holder(), self.token);
        let Some(certificate) = &self.certificate else { return presented };
        let request = presented.request().into_owned();
        presented.telling(request.client_certificate(certificate.to_pem()))
    }
}

/// What a request showed beside its token.
#[derive(Clone)]
struct Shown {
    scheme: Scheme,
    certificate: Option<Thumbprint>,
    /// What became of its proof.
    sent: Option<Sent>,
}

/// Set when Authlete is asked with a request's proof: to the call.
pub(crate) type Sent = Arc<OnceLock<Arc<Flight<Asked>>>>;

impl<S, R> AuthService<S, R> {
    pub(crate) fn new(inner: S, settings: Arc<Settings<R>>, freshness: Freshness) -> Self {
        Self { inner, gate: Gate { settings, freshness } }
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
            Way::Decide(shown, answer) => self.gate.decide(&mut request, &shown, answer),
            Way::Ask(shown, asking) => {
                // It is this service that was polled ready, so it is the one to be called; a clone
                // takes its place. See tower's documentation of `Service`, "Be careful when cloning
                // inner services".
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                let gate = self.gate.clone();
                let decide = Box::new(move |request: &mut Request<B>, answer| {
                    gate.decide(request, &shown, answer)
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
            let shown = Shown { scheme, certificate: None, sent: None };
            Way::Decide(shown, Err(rejection))
        })
    }

    fn try_way<B>(&self, request: &Request<B>) -> Result<Way, (Scheme, Rejection)> {
        let Some(found) = self.find(RequestHead::of(request), request.extensions())? else {
            return Ok(Way::Pass);
        };
        let Settings { verifier, options, .. } = &*self.settings;
        if found.scheme == Scheme::Dpop || options.signatures.is_some() {
            return self.way_of_proof(request, &found).map_err(|it| (found.scheme, it));
        }
        let shown = self.shown(&found);
        let now = verifier.clock.recently();
        let (key, known) = match self.freshness.fresh {
            true => (verifier.key(found.token), None),
            false => verifier.look_up(found.token, found.holder(), now),
        };
        match known {
            Some(Known { answer, ends }) if !self.lacks_facts(&answer) => {
                if let Ok(known) = &answer
                    && known.is_bound_to(shown.certificate.as_ref())
                {
                    verifier.keep_alive(&key, known, ends, || found.presented(key));
                }
                Ok(Way::Decide(shown, answer))
            }
            _ => {
                let asking = Box::pin(verifier.clone().ask(found.presented(key), self.freshness));
                Ok(Way::Ask(shown, asking))
            }
        }
    }

    /// What a request presents, if it presents anything.
    fn find<'r>(
        &self,
        head: RequestHead<'r>,
        extensions: &Extensions,
    ) -> Result<Option<Found<'r>>, (Scheme, Rejection)> {
        let options = &self.settings.options;
        let found = credentials::find(&options.sources, head, options.max_token_length);
        let (scheme, token) = match found.map_err(|rejection| (Scheme::Bearer, rejection))? {
            Some(found) => found,
            None if options.optional => return Ok(None),
            None => return Err((Scheme::Bearer, Rejection::no_credentials())),
        };
        if !self.accepts(scheme) {
            return Err((scheme, Rejection::no_credentials()));
        }
        if options.precheck.as_ref().is_some_and(|precheck| !precheck.has_shape(token)) {
            meter::prechecked("shape");
            return Err((scheme, Rejection::foreign_token()));
        }
        let certificate = match &options.certificates {
            Some(certificates) => certificates
                .find(head.headers, extensions)
                .map_err(|malformed| (scheme, Rejection::invalid_request(malformed)))?,
            None => None,
        };
        Ok(Some(Found { scheme, token, certificate }))
    }

    fn shown(&self, found: &Found<'_>) -> Shown {
        let certificate = found.holder().certificate;
        Shown { scheme: found.scheme, certificate, sent: None }
    }

    /// The way of a request that proves something.
    fn way_of_proof<B>(&self, request: &Request<B>, found: &Found<'_>) -> Result<Way, Rejection> {
        let verifier = &self.settings.verifier;
        let shown = self.shown(found);
        // Authlete has just been asked by the layer outside, and would take the same proof for a replay.
        let proven = request.extensions().get::<Proven>();
        let proven = proven.filter(|proven| proven.is_by(verifier));
        if let Some(Proven { token: known, sent: Some(sent), .. }) = proven
            && let Some(flight) = sent.get()
        {
            let shown = Shown { sent: Some(sent.clone()), ..shown };
            let key = verifier.key(found.token);
            let Freshness { fresh, stale } = self.freshness;
            let known = || verifier.known_since(&key, flight, known, stale);
            return Ok(match (!fresh).then(known).flatten() {
                Some(answer) => Way::Decide(shown, answer),
                None => Way::Ask(shown, Box::pin(verifier.clone().wait(key, flight.clone()))),
            });
        }
        let sent = Sent::default();
        let presented = found.presented(verifier.key(found.token));
        let asking = self.prove(request, found.scheme, presented, proven.is_some(), &sent)?;
        Ok(Way::Ask(Shown { sent: Some(sent), ..shown }, asking))
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
        let mut freshness = self.freshness;
        if let Some(signatures) = &options.signatures {
            let (version, extensions) = (request.version(), request.extensions());
            let request = presented.request().into_owned();
            let request = signatures.describe(head, version, extensions, request);
            presented = presented.telling(request.map_err(unplaced)?);
            freshness.fresh = true;
        }
        #[cfg(feature = "dpop")]
        if let Some(prover) = options.dpop.as_ref().filter(|_| scheme == Scheme::Dpop) {
            let url = prover.settings.origin().url(head, request.extensions()).map_err(unplaced)?;
            let proof = credentials::proof(head.headers)?;
            let told = presented.request().into_owned();
            presented = presented.telling(told.dpop(proof).htm(head.method.as_str()).htu(url));
            presented.sent = Some(sent.clone());
            let (verifier, prover) = (verifier.clone(), prover.clone());
            let asking = verifier.ask_with_proof(prover, presented, freshness, proven);
            return Ok(Box::pin(asking));
        }
        let _ = (scheme, proven, sent);
        Ok(Box::pin(verifier.clone().ask(presented, freshness)))
    }

    /// Whether a token that was issued here does not meet the layer's requirement by what is known
    /// of it without having asked, so that it has to be asked about.
    fn lacks_facts(&self, known: &Answer) -> bool {
        let Ok(token) = known else { return false };
        let Settings { verifier, options, .. } = &*self.settings;
        let unmet = |require: &Require| require.check(token, &verifier.clock).is_err();
        !token.is_complete() && options.require.as_ref().is_some_and(unmet)
    }

    /// What the inside needs to refuse in the same way.
    fn guard<ResB: 'static>(&self) -> &Guard
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, renderer, .. } = &*self.settings;
        verifier.guard.renders::<ResB>(renderer);
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
        shown: &Shown,
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
            let (token, sent) = (token.clone(), shown.sent.clone());
            let proven = Proven { verifier, token, sent };
            request.extensions_mut().insert(proven);
        }
        self.guard::<ResB>();
        token.insert_into(request.extensions_mut(), options.token_info_alone);
        Ok(after)
    }

    /// Whether a good token may be used by who shows this, for this.
    fn allow(&self, shown: &Shown, token: TokenInfo) -> Answer {
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
        let clock = &self.settings.verifier.clock;
        require.map_or(Ok(()), |require| require.check(&token, clock))?;
        Ok(token)
    }

    fn refuse<B, ResB>(
        &self,
        request: &Request<B>,
        shown: &Shown,
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
    fn nonce(&self, shown: &Shown) -> Option<HeaderValue> {
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
        shown: &Shown,
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
        // What is done once is done by the layer outside.
        let verifier = &self.settings.verifier;
        let seen_to = request.extensions().get::<SeenTo>();
        let seen_to = seen_to.filter(|seen_to| Arc::ptr_eq(&seen_to.verifier, verifier));
        let (turns, signed) = seen_to.map_or((false, false), |it| (it.turns, it.signs));
        let (turn, signs) = (turn.filter(|_| !turns), signs && !signed);
        let verifier = verifier.clone();
        let seen_to = SeenTo { verifier, turns: turns || turn.is_some(), signs: signed || signs };
        request.extensions_mut().insert(seen_to);
        let (settings, info, scheme) = (self.settings.clone(), info.clone(), shown.scheme);
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
                    let head = rejection.head(&headers, challenges, scheme);
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
        shown: &Shown,
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
        let turn = Turn::due(verifier, token, request.extensions())
            .filter(|_| shown.scheme == Scheme::Bearer);
        if !info.is_complete() {
            let recheck = verifier.recheck(token, self.freshness);
            request.extensions_mut().insert(recheck);
        }
        turn
    }
}

/// In the extensions of a request: what is done to its response, for a layer of the same make inside.
#[derive(Clone)]
struct SeenTo {
    verifier: Arc<Verifier>,
    /// It tells a new value of the token.
    turns: bool,
    /// It is signed.
    signs: bool,
}

/// In the extensions of a request whose proof a layer has used up, for a layer of the same make inside
/// of it.
#[derive(Clone)]
struct Proven {
    verifier: Arc<Verifier>,
    token: TokenInfo,
    /// Whether Authlete was asked with the proof.
    sent: Option<Sent>,
}

impl Proven {
    fn is_by(&self, verifier: &Arc<Verifier>) -> bool {
        Arc::ptr_eq(&self.verifier, verifier)
    }
}

impl<R> Clone for Gate<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), freshness: self.freshness }
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
