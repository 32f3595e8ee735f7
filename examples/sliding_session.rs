//! A token with three seconds of life is kept alive by use, and dies when it is left alone.
//!
//! ```sh
//! cargo run --example sliding_session --features emulator
//! ```

use std::{convert::Infallible, error::Error, time::Duration};

use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_authlete::{
    AuthLayer,
    emulator::{Api, Emulator},
    lifecycle::ExtendLifetime,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authlete = Emulator::start().await;
    let token = authlete.token().subject("alice").expires_in(3 * SECOND).issue().await;
    let extension =
        ExtendLifetime::new().when_below(2 * SECOND).to(3 * SECOND).never_beyond(60 * SECOND);
    let auth = AuthLayer::builder(authlete.authlete()).extend_lifetime(extension).build()?;
    let service =
        auth.layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) }));
    let get = async || -> Result<StatusCode, Box<dyn Error>> {
        let request = Request::builder().header("authorization", format!("Bearer {token}"));
        let response = service.clone().oneshot(request.body(())?).await?;
        println!(
            "{}; introspections: {}, updates: {}",
            response.status(),
            authlete.calls(Api::Introspection),
            authlete.calls(Api::TokenUpdate)
        );
        Ok(response.status())
    };

    println!("used every half second, for three times its life:");
    for _ in 0..18 {
        if get().await? != StatusCode::OK {
            return Err("the token died though it was used".into());
        }
        tokio::time::sleep(SECOND / 2).await;
    }
    println!("left alone for four seconds:");
    tokio::time::sleep(4 * SECOND).await;
    if get().await? != StatusCode::UNAUTHORIZED {
        return Err("the token lives though it was left alone".into());
    }
    Ok(())
}
