//! The way of a request: what it presents, who that is, whether they may, and on.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    cache::Holder,
    credentials::{self, RequestHead},
    future::{Asking, AuthFuture, Decision, Pass, Waiting},
    layer::Settings,
    policy::Require,
    rejection::{Guard, Rejection, Renderer},
    rotate::Turn,
    token::TokenInfo,
    verdict::Answer,
    verifier::Presented,
};

/// The service of [`AuthLayer`](crate::AuthLayer).
pub struct AuthService<S, R> {
    inner: S,
    gate: Gate<R>,
}

/// Decides about requests.
pub(crate) struct Gate<R> {
    settings: Arc<Settings<R>>,
    fresh: bool,
    /// Made at the first request, when the body of responses is known.
    guard: OnceLock<Guard>,
}

/// What is to be done with a request whose credentials have been looked at.
enum Way {
    /// It needs no token.
    Pass,
    /// All there is to know is known.
    Decide(Answer),
    Ask(Asking),
}

impl<S, R> AuthService<S, R> {
    pub(crate) fn new(inner: S, settings: Arc<Settings<R>>, fresh: bool) -> Self {
        Self { inner, gate: Gate { settings, fresh, guard: OnceLock::new() } }
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let decided = match self.gate.way(RequestHead::of(&request)) {
            Way::Pass => Ok(self.gate.pass(request).into()),
            Way::Decide(answer) => self.gate.decide(request, answer),
            Way::Ask(asking) => {
                // It is this service that was polled ready, so it is the one to be called; a clone
                // takes its place. See tower's documentation of `Service`, "Be careful when cloning
                // inner services".
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                let gate = self.gate.clone();
                let decide = Box::new(move |request, answer| gate.decide(request, answer));
                return AuthFuture::asking(asking, Waiting { request, service, decide });
            }
        };
        AuthFuture::decided(decided, &mut self.inner)
    }
}

impl<R> Gate<R> {
    fn way(&self, head: RequestHead<'_>) -> Way {
        let Settings { verifier, options, .. } = &*self.settings;
        let token = match credentials::find(&options.sources, head, options.max_token_length) {
            Ok(Some(token)) => token,
            Ok(None) if options.optional => return Way::Pass,
            Ok(None) => return Way::Decide(Err(Rejection::no_credentials())),
            Err(malformed) => return Way::Decide(Err(malformed)),
        };
        let key = verifier.key(token);
        let presented = || Presented::bearer(key, token);
        let known = verifier.known(&key, Holder::BEARER).filter(|_| !self.fresh);
        match known {
            Some(answer) if !self.lacks_facts(&answer) => {
                if let Ok(known) = &answer {
                    verifier.keep_alive(&key, known, presented);
                }
                Way::Decide(answer)
            }
            _ => Way::Ask(Box::pin(verifier.clone().ask(presented(), self.fresh))),
        }
    }

    /// Whether a token that was issued here does not meet the layer's requirement by what is known
    /// of it without having asked, so that it has to be asked about.
    fn lacks_facts(&self, known: &Answer) -> bool {
        let Ok(token) = known else { return false };
        let Settings { verifier, options, .. } = &*self.settings;
        let unmet = |require: &Require| require.check(token, verifier.clock.now()).is_err();
        !token.is_complete() && options.require.as_ref().is_some_and(unmet)
    }

    fn guard<ResB: 'static>(&self) -> &Guard
    where
        R: Renderer<ResB>,
    {
        self.guard.get_or_init(|| {
            let settings = &*self.settings;
            let renderer: Arc<dyn Renderer<ResB>> = settings.renderer.clone();
            Guard::new(settings.options.realm.as_deref(), settings.verifier.clock.clone(), renderer)
        })
    }

    /// Lets a request pass, with what the inside needs to refuse in the same way.
    fn pass<B, ResB: 'static>(&self, mut request: Request<B>) -> Request<B>
    where
        R: Renderer<ResB>,
    {
        let guard = self.guard::<ResB>().clone();
        request.extensions_mut().insert(guard);
        request
    }

    /// The request with the token's facts, or the response that refuses it.
    pub(crate) fn decide<B, ResB: 'static>(
        &self,
        mut request: Request<B>,
        answer: Answer,
    ) -> Decision<B, ResB>
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, options, renderer } = &*self.settings;
        let allowed = answer.and_then(|token| {
            let require = options.require.as_ref();
            require.map_or(Ok(()), |require| require.check(&token, verifier.clock.now()))?;
            Ok(token)
        });
        let token = match allowed {
            Ok(token) => token,
            Err(rejection) => {
                tracing::debug!(reason = ?rejection.reason(), "request refused");
                let head = rejection.head(options.realm.as_deref());
                return Err(renderer.render(&rejection, head));
            }
        };
        let turn = self.follow_up(&mut request, &token);
        credentials::conceal(&options.sources, request.headers_mut(), options.strip);
        token.insert_into(request.extensions_mut());
        Ok(Pass { request: self.pass::<B, ResB>(request), turn })
    }

    /// What may have to be done about the token later, for which its value is needed.
    fn follow_up<B>(&self, request: &mut Request<B>, info: &TokenInfo) -> Option<Turn> {
        let Settings { verifier, options, .. } = &*self.settings;
        if info.is_complete() && verifier.rotator.is_none() {
            return None;
        }
        let head = RequestHead::of(request);
        let token = credentials::find(&options.sources, head, options.max_token_length).ok()??;
        let turn = Turn::due(verifier, token);
        if !info.is_complete() {
            let recheck = verifier.recheck(token);
            request.extensions_mut().insert(recheck);
        }
        turn
    }
}

impl<R> Clone for Gate<R> {
    fn clone(&self) -> Self {
        let Self { settings, fresh, guard } = self;
        Self { settings: settings.clone(), fresh: *fresh, guard: guard.clone() }
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
