//! One request: what it presents, what is known of that, whether it may pass, and on.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderName, HeaderValue, Request, Response, header::CACHE_CONTROL};
use tower_service::Service;

#[cfg(feature = "dpop")]
use crate::proof::ProofFor;
use crate::{
    authorize::Require,
    credentials::{self, RequestHead, Scheme},
    introspect::{Presented, Sent},
    layer::future::{After, AuthFuture, Decision, Finish, Waiting},
    layer::settings::Settings,
    lifecycle::{Admits, PendingExtension, PendingRotation},
    observe::{counters, limited},
    proof::{ClientCertificate, Unplaced},
    rejection::{self, Protocol, Rejection, Renderer},
    request::context::{self, Admission, AfterResponse, AuthContext, Proven, Recheck},
    resilience::Deadline,
    store::{Binding, CacheHit, Key, Thumbprint},
    token::TokenInfo,
    verdict::Verdict,
    verify::{Freshness, Resolved, Resolving, Verifier},
};

/// RFC 9449 §8.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The service of [`AuthLayer`](crate::AuthLayer).
pub struct AuthService<S, R> {
    inner: S,
    auth: Authenticator<R>,
}

/// Decides about requests. Routers clone their services for each of them.
struct Authenticator<R> {
    settings: Arc<Settings<R>>,
    freshness: Freshness,
}

/// A request whose credentials have been looked at.
enum Begin {
    /// It needs no token.
    Anonymous,
    /// All there is to know is known.
    Ready(Evidence, Resolved),
    Pending(Evidence, Resolving),
}

/// What a request presents.
struct Credentials<'r> {
    scheme: Scheme,
    token: &'r str,
    certificate: Option<ClientCertificate>,
}

impl Credentials<'_> {
    /// The binding without the key of a proof, which has not been verified yet.
    fn binding(&self) -> Binding {
        let certificate = self.certificate.as_ref().map(ClientCertificate::thumbprint);
        Binding { key: None, certificate }
    }

    fn presented(&self, key: Key) -> Presented {
        let presented = Presented::new(key, self.binding(), self.token);
        let Some(certificate) = &self.certificate else { return presented };
        let request = presented.request().into_owned();
        presented.telling(request.client_certificate(certificate.to_pem()))
    }
}

/// What a request presented, as far as it is needed when its headers are not looked at any more.
struct Evidence {
    scheme: Scheme,
    certificate: Option<Thumbprint>,
    /// What a usual hit does not need, which takes no room of it.
    rest: Option<Box<Rest>>,
}

/// What is needed to ask about a token, or to do more about it than to let its request pass.
#[derive(Default)]
struct Rest {
    /// All that Authlete is told, if it may have to be asked.
    presented: Option<Arc<Presented>>,
    /// The value of the token as it was presented, if values are rotated.
    value: Option<Key>,
    rotation: Option<PendingRotation>,
    /// What became of the proof, and the key of its token.
    sent: Option<(Key, Sent)>,
    /// When the check is to be over, but for what comes after an extension.
    deadline: Option<Deadline>,
    /// The token's extension has been waited for.
    extended: bool,
}

impl Evidence {
    fn of_scheme(scheme: Scheme) -> Self {
        Self { scheme, certificate: None, rest: None }
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    fn presented(&self) -> Option<&Arc<Presented>> {
        self.rest.as_ref()?.presented.as_ref()
    }

    /// What a call is made with that begins now.
    fn asks(&mut self, presented: Arc<Presented>, deadline: Deadline) {
        let rest = self.rest();
        (rest.presented, rest.deadline) = (Some(presented), Some(deadline));
    }
}

impl<S, R> AuthService<S, R> {
    pub(crate) fn new(inner: S, settings: Arc<Settings<R>>, freshness: Freshness) -> Self {
        Self { inner, auth: Authenticator { settings, freshness } }
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
        let (mut evidence, resolving) = match self.auth.begin(&request) {
            Begin::Anonymous => {
                self.auth.admit_anonymous(&mut request);
                return AuthFuture::admitted(self.inner.call(request), None);
            }
            Begin::Ready(mut evidence, resolved) => {
                match self.auth.decide(&mut request, &mut evidence, resolved) {
                    Decision::Admit(after) => {
                        return AuthFuture::admitted(self.inner.call(request), after);
                    }
                    Decision::Refuse(response) => return AuthFuture::refused(response),
                    Decision::Wait(resolving) => (evidence, resolving),
                }
            }
            Begin::Pending(evidence, resolving) => (evidence, resolving),
        };
        // It is this service that was polled ready, so it is the one to be called; a clone takes its
        // place. See tower's documentation of `Service`, "Be careful when cloning inner services".
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let auth = self.auth.clone();
        let decide = Box::new(move |request: &mut Request<B>, resolved| {
            auth.decide(request, &mut evidence, resolved)
        });
        AuthFuture::pending(resolving, Waiting { request, service, decide })
    }
}

impl<R> Authenticator<R> {
    fn begin<B>(&self, request: &Request<B>) -> Begin {
        self.try_begin(request).unwrap_or_else(|(scheme, rejection)| {
            Begin::Ready(Evidence::of_scheme(scheme), Resolved::known(Err(rejection)))
        })
    }

    fn try_begin<B>(&self, request: &Request<B>) -> Result<Begin, (Scheme, Rejection)> {
        let credentials = self.credentials(RequestHead::of(request), request.extensions())?;
        let Some(credentials) = credentials else { return Ok(Begin::Anonymous) };
        let Settings { verifier, options, .. } = &*self.settings;
        if credentials.scheme == Scheme::Dpop || options.signatures.is_some() {
            let scheme = credentials.scheme;
            return self.begin_with_proof(request, &credentials).map_err(|it| (scheme, it));
        }
        let now = verifier.clock.recently();
        let (key, known) = match self.freshness.fresh {
            true => (verifier.store.key(credentials.token), None),
            false => verifier.store.look_up(credentials.token, credentials.binding(), now),
        };
        let mut evidence = self.evidence(&credentials, key, request.extensions());
        let known = known.filter(|hit| !self.lacks_facts(&hit.verdict));
        let Some(known) = known else {
            let presented = Arc::new(credentials.presented(key));
            evidence.asks(presented.clone(), self.deadline_of_extension());
            let resolving = verifier.clone().resolve(presented, self.freshness);
            return Ok(Begin::Pending(evidence, Box::pin(resolving)));
        };
        let lifecycle = &self.settings.lifecycle;
        if let CacheHit { verdict: Ok(token), needs_refresh } = &known
            && (*needs_refresh || !token.is_complete() || lifecycle.is_extension_due(&key, token))
        {
            evidence.rest().presented = Some(Arc::new(credentials.presented(key)));
        }
        Ok(Begin::Ready(evidence, known.into()))
    }

    /// What a request presents, if it presents anything.
    fn credentials<'r>(
        &self,
        head: RequestHead<'r>,
        extensions: &Extensions,
    ) -> Result<Option<Credentials<'r>>, (Scheme, Rejection)> {
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
            counters::prechecked("shape");
            return Err((scheme, Rejection::foreign_token()));
        }
        let certificate = match &options.certificates {
            Some(certificates) => {
                certificates.find(head.headers, extensions).map_err(|it| (scheme, it))?
            }
            None => None,
        };
        Ok(Some(Credentials { scheme, token, certificate }))
    }

    fn evidence(
        &self,
        credentials: &Credentials<'_>,
        key: Key,
        extensions: &Extensions,
    ) -> Evidence {
        let Credentials { scheme, token, .. } = credentials;
        let mut evidence = Evidence::of_scheme(*scheme);
        evidence.certificate = credentials.binding().certificate;
        // A client that proves possession needs no new values.
        if let Some(rotator) = &self.settings.lifecycle.rotator
            && *scheme == Scheme::Bearer
        {
            let rest = evidence.rest();
            rest.value = Some(key);
            rest.rotation = PendingRotation::due(rotator, key, token, extensions);
        }
        evidence
    }

    /// The beginning of a request that proves something.
    fn begin_with_proof<B>(
        &self,
        request: &Request<B>,
        credentials: &Credentials<'_>,
    ) -> Result<Begin, Rejection> {
        let verifier = &self.settings.verifier;
        let key = verifier.store.key(credentials.token);
        let mut evidence = self.evidence(credentials, key, request.extensions());
        // Authlete has just been asked by the layer outside, and would take the same proof for a replay.
        let outer = AuthContext::of(request.extensions(), verifier);
        let proven = outer.and_then(|context| context.proven.as_ref());
        let proven = proven.filter(|proven| proven.key == key);
        if let Some(Proven { token: known, sent, .. }) = proven
            && let Some(flight) = sent.get()
        {
            evidence.rest().sent = Some((key, sent.clone()));
            let Freshness { fresh, stale } = self.freshness;
            let known = || verifier.known_since(&key, flight, known, stale);
            return Ok(match (!fresh).then(known).flatten() {
                Some(answer) => Begin::Ready(evidence, Resolved::known(answer)),
                None => {
                    let resolving = Verifier::wait(flight.clone());
                    Begin::Pending(evidence, Box::pin(resolving))
                }
            });
        }
        evidence.rest().sent = Some((key, Sent::default()));
        let presented = credentials.presented(key);
        let resolving = self.prove(request, presented, proven.is_some(), &mut evidence)?;
        Ok(Begin::Pending(evidence, resolving))
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
        mut presented: Presented,
        proven: bool,
        evidence: &mut Evidence,
    ) -> Result<Resolving, Rejection> {
        let Settings { verifier, options, .. } = &*self.settings;
        let head = RequestHead::of(request);
        let scheme = evidence.scheme;
        let unplaced = |unplaced| match (unplaced, scheme) {
            (Unplaced::Misconfigured(problem), _) => {
                limited!(
                    error,
                    verifier.log,
                    problem,
                    "the URL of a request is not known; check the origin's settings"
                );
                Rejection::misconfigured("this server does not know its own URL")
            }
            #[cfg(feature = "dpop")]
            (Unplaced::Elsewhere(problem), Scheme::Dpop) => Rejection::invalid_dpop_proof(problem),
            (Unplaced::Elsewhere(problem) | Unplaced::Malformed(problem), _) => {
                Rejection::invalid_request(problem)
            }
        };
        let mut freshness = self.freshness;
        if let Some(signatures) = &options.signatures {
            let told = presented.request().into_owned();
            let request = signatures.describe(head, request.extensions(), told);
            presented = presented.telling(request.map_err(unplaced)?);
            freshness.fresh = true;
        }
        #[cfg(feature = "dpop")]
        if let Some(prover) = options.dpop.as_ref().filter(|_| evidence.scheme == Scheme::Dpop) {
            let url = prover.settings.origin().url(head, request.extensions()).map_err(unplaced)?;
            let text = credentials::proof(head.headers)?;
            let (method, token, now) =
                (head.method.as_str(), presented.token().expose(), verifier.clock.now());
            let proof = prover.verify(text, &ProofFor { method, url: &url, token, now })?;
            prover.check_nonce(&proof, now)?;
            presented.binding.key = Some(proof.thumbprint);
            let told = presented.request().into_owned();
            presented = presented.telling(told.dpop(text).htm(method).htu(url));
            presented.sent = evidence.rest().sent.as_ref().map(|(_, sent)| sent.clone());
            let (verifier, prover) = (verifier.clone(), prover.clone());
            let presented = Arc::new(presented);
            evidence.asks(presented.clone(), self.deadline_of_extension());
            let foreign_nonces = self.settings.introspector.nonce().is_some();
            return Ok(Box::pin(verifier.resolve_with_proof(
                prover,
                proof,
                presented,
                freshness,
                proven,
                foreign_nonces,
            )));
        }
        let _ = proven;
        let presented = Arc::new(presented);
        evidence.asks(presented.clone(), self.deadline_of_extension());
        Ok(Box::pin(verifier.clone().resolve(presented, freshness)))
    }

    /// An extension that a check waits for is to be over before the check is, so that there is time for what
    /// comes after it.
    fn deadline_of_extension(&self) -> Deadline {
        Deadline::after(self.settings.verifier.deadline / 4 * 3)
    }

    /// Whether a token that was issued here does not meet the layer's requirement by what is known
    /// of it without having asked, so that it has to be asked about.
    fn lacks_facts(&self, known: &Verdict) -> bool {
        let Ok(token) = known else { return false };
        let Settings { verifier, options, .. } = &*self.settings;
        let unmet = |require: &Require| require.check_known(token, &verifier.clock).is_err();
        !token.is_complete() && options.require.as_ref().is_some_and(unmet)
    }

    /// Lets what is inside refuse in the same way.
    fn render<ResB: 'static>(&self)
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, renderer, .. } = &*self.settings;
        verifier.guard.add_renderer::<ResB>(renderer);
    }

    /// Lets a request without a token pass.
    fn admit_anonymous<B, ResB: 'static>(&self, request: &mut Request<B>)
    where
        R: Renderer<ResB>,
    {
        self.render::<ResB>();
        AuthContext::insert_anonymous(request.extensions_mut(), &self.settings.verifier);
    }

    /// Gives the request the token's facts, or makes the response that refuses it.
    fn decide<B, ResB: 'static>(
        &self,
        request: &mut Request<B>,
        evidence: &mut Evidence,
        resolved: Resolved,
    ) -> Decision<ResB>
    where
        R: Renderer<ResB>,
    {
        let Resolved { verdict, check, needs_refresh } = resolved;
        let Settings { verifier, lifecycle, options, .. } = &*self.settings;
        let (certificate, require) = (evidence.certificate.as_ref(), options.require.as_ref());
        let allow = |token| context::allow(token, certificate, options.signs(), require, verifier);
        let token = match verdict.and_then(allow) {
            Ok(token) => token,
            Err(rejection) => {
                rejection.note();
                return Decision::Refuse(self.refuse(request, evidence, &rejection));
            }
        };
        let rest = evidence.rest.as_deref_mut().filter(|rest| !rest.extended);
        let extension = rest.as_ref().and_then(|rest| rest.presented.as_ref());
        // By what the introspection says that an extension follows.
        let admits = || -> Admits {
            let admission = self.admission(evidence.certificate, options.signs());
            let verifier = verifier.clone();
            Box::new(move |token| admission.allow(token, &verifier).is_ok())
        };
        let extension = extension.and_then(|presented| {
            let presented = verifier.by_current_value(presented);
            if check.is_some() {
                lifecycle.see(&presented.key);
            }
            let revalidates = needs_refresh && verifier.remote.availability().is_worth_a_call();
            let asked = revalidates.then(|| verifier.revalidate(&presented)).flatten();
            let extender = lifecycle.extender.as_ref()?;
            let due = extender.is_due(&presented.key, &token);
            due.then(|| PendingExtension::new(extender, presented, check.or(asked), admits()))
        });
        let waits = lifecycle.extender.as_ref().is_some_and(|extender| extender.waits());
        match (extension, rest) {
            (Some(extension), Some(rest)) if waits => {
                rest.extended = true;
                let deadline = rest.deadline;
                let deadline = deadline.unwrap_or_else(|| self.deadline_of_extension());
                let after = after_extension(verifier.clone(), extension, deadline, token);
                Decision::Wait(Box::pin(after))
            }
            (extension, _) => Decision::Admit(self.admit(request, evidence, token, extension)),
        }
    }

    /// Leaves in the request what is known, and tells what is to be done to its response.
    fn admit<B, ResB: 'static>(
        &self,
        request: &mut Request<B>,
        evidence: &mut Evidence,
        token: TokenInfo,
        extension: Option<PendingExtension>,
    ) -> Option<Box<After<ResB>>>
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, lifecycle, options, .. } = &*self.settings;
        let rotation = match (&lifecycle.rotator, evidence.rest.as_deref_mut()) {
            (Some(rotator), Some(Rest { value: Some(value), rotation, .. })) => {
                rotator.see(value);
                rotation.take()
            }
            _ => None,
        };
        // What is done once is done by the layer outside.
        let done = AuthContext::take(request.extensions_mut(), verifier);
        let rotation = rotation.filter(|_| !done.rotates);
        // An extension by the old value would miss the token that gets a new one.
        let extension = extension.filter(|_| rotation.is_none() && !done.rotates);
        let signs = token.needs_signed_response() && !done.signs;
        let after = AfterResponse {
            rotates: done.rotates || rotation.is_some(),
            signs: done.signs || signs,
            watched: done.watched || rotation.is_some() || extension.is_some(),
        };
        let finish = self.finish(request, evidence, &token, signs);
        let unusual = evidence.scheme == Scheme::Dpop || !token.is_complete();
        if unusual || after.rotates || after.signs || after.watched {
            let context = self.context(evidence, &token, after);
            request.extensions_mut().insert(context);
        }
        let proofs = options.challenges.algorithms.is_some();
        credentials::conceal(&options.sources, proofs, request.headers_mut(), options.strip);
        self.render::<ResB>();
        token.insert_into(request.extensions_mut(), options.token_info_alone);
        let nothing = rotation.is_none() && extension.is_none() && finish.is_none();
        (!nothing).then(|| Box::new(After { rotation, extension, finish }))
    }

    fn context(&self, evidence: &Evidence, token: &TokenInfo, after: AfterResponse) -> AuthContext {
        let verifier = &self.settings.verifier;
        let presented = evidence.presented().filter(|_| !token.is_complete());
        let recheck = presented.map(|presented| Recheck {
            presented: presented.clone(),
            freshness: self.freshness,
            admission: self.admission(evidence.certificate, after.signs),
        });
        let sent = evidence.rest.as_ref().and_then(|rest| rest.sent.clone());
        let sent = sent.filter(|_| evidence.scheme == Scheme::Dpop);
        let proven = sent.map(|(key, sent)| Proven { key, token: token.clone(), sent });
        let (verifier, scheme) = (verifier.clone(), evidence.scheme);
        AuthContext { verifier, scheme, recheck, proven, after }
    }

    /// What the layer demands of a good token that is presented over a connection with this certificate.
    fn admission(&self, certificate: Option<Thumbprint>, signs: bool) -> Admission {
        let require = self.settings.options.require.clone();
        Admission { require, certificate, signs }
    }

    fn refuse<B, ResB>(
        &self,
        request: &Request<B>,
        evidence: &Evidence,
        rejection: &Rejection,
    ) -> Response<ResB>
    where
        R: Renderer<ResB>,
    {
        let Settings { options, renderer, .. } = &*self.settings;
        let protocol = Protocol::of(RequestHead::of(request));
        let mut head = rejection.head(&protocol, &options.challenges, evidence.scheme);
        head.headers_mut().extend(self.nonce(evidence).map(|nonce| (Some(DPOP_NONCE), nonce)));
        let watched = AuthContext::is_watched(request.extensions());
        rejection::render(&**renderer, rejection, head, watched)
    }

    /// The nonce that the client has to use next, if there is one.
    fn nonce(&self, evidence: &Evidence) -> Option<HeaderValue> {
        #[cfg(feature = "dpop")]
        if evidence.scheme == Scheme::Dpop {
            let Settings { verifier, introspector, options, .. } = &*self.settings;
            let ours = options.dpop.as_ref()?.nonce(verifier.clock.now());
            return ours.or_else(|| introspector.nonce());
        }
        let _ = evidence;
        None
    }

    /// The last change of the response, if there is one.
    fn finish<B, ResB: 'static>(
        &self,
        request: &Request<B>,
        evidence: &Evidence,
        token: &TokenInfo,
        signs: bool,
    ) -> Option<Finish<ResB>>
    where
        R: Renderer<ResB>,
    {
        let nonce = self.nonce(evidence);
        if nonce.is_none() && !signs {
            return None;
        }
        let (settings, token, scheme) = (self.settings.clone(), token.clone(), evidence.scheme);
        let protocol = Protocol::of(RequestHead::of(request));
        let signatures = settings.options.signatures.as_ref().filter(|_| signs);
        let signed =
            signatures.and_then(|it| it.keep(RequestHead::of(request), request.extensions()));
        Some(Box::new(move |mut response| {
            if let Some(nonce) = nonce {
                response.headers_mut().insert(DPOP_NONCE, nonce);
                // RFC 9449 §8.2: a nonce is for one client.
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            match settings.options.signatures.as_ref().filter(|_| signs) {
                Some(signatures) => {
                    let signed = signatures.sign(&token, signed.as_ref(), response);
                    signed.unwrap_or_else(|error| {
                        let cause = &error as &dyn std::error::Error;
                        limited!(
                            error,
                            settings.verifier.log,
                            error = cause,
                            "a response could not be signed"
                        );
                        let rejection =
                            Rejection::misconfigured("the response could not be signed");
                        let challenges = &settings.options.challenges;
                        let head = rejection.head(&protocol, challenges, scheme);
                        rejection::render(&*settings.renderer, &rejection, head, true)
                    })
                }
                None => response,
            }
        }))
    }
}

/// What is known of a token when it was extended.
async fn after_extension(
    verifier: Arc<Verifier>,
    extension: PendingExtension,
    deadline: Deadline,
    token: TokenInfo,
) -> Resolved {
    let presented = extension.presented.clone();
    let verdict = match extension.wait(token, deadline).await {
        Some(verdict) => verdict,
        None => verifier.ask_again(&presented).await,
    };
    Resolved::known(verdict)
}

impl<R> Clone for Authenticator<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), freshness: self.freshness }
    }
}

impl<S: Clone, R> Clone for AuthService<S, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), auth: self.auth.clone() }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for AuthService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
