use tower_authlete::{
    api::{ErrorKind, IntrospectionRequest, TokenListRequest, TokenRevokeRequest},
    emulator::{Api, Fault},
};

use crate::support::{SECOND, is_good, start};

#[tokio::test]
async fn a_fault_can_be_limited_to_an_api_and_a_number_of_calls() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    emulator.fault(Fault::status(503).on(Api::Introspection).times(2));
    let request = IntrospectionRequest::new().token(token.as_str());
    authlete.token_list(&TokenListRequest::new()).await.unwrap();
    for _ in 0..2 {
        assert!(authlete.introspection(&request).await.unwrap_err().is_retryable());
    }
    assert!(is_good(&authlete, &token).await);
    emulator.fault(Fault::status(400));
    assert!(authlete.introspection(&request).await.unwrap_err().is_our_fault());
    emulator.clear_faults();
    assert!(is_good(&authlete, &token).await);
    assert_eq!(emulator.calls(Api::Introspection), 5);
    assert_eq!(emulator.total_calls(), 6);
}

#[tokio::test]
async fn each_kind_of_fault_is_what_it_says() {
    let (emulator, _) = start().await;
    let authlete = emulator.client_builder().deadline(SECOND / 5).build().unwrap();
    let request = IntrospectionRequest::new().token("abc");
    for (fault, expected) in [
        (Fault::hang(), "Deadline"),
        (Fault::delay(60 * SECOND), "Deadline"),
        (Fault::reset(), "Connection"),
        (Fault::truncated(), "Connection"),
        (Fault::body("<html>"), "Undecodable"),
        (Fault::status(429).retry_after(3), "Refused"),
    ] {
        emulator.clear_faults();
        emulator.fault(fault);
        let error = authlete.introspection(&request).await.unwrap_err();
        assert!(format!("{:?}", error.kind).starts_with(expected), "{expected}: {error:?}");
        if let ErrorKind::Refused(refusal) = &error.kind {
            assert_eq!(refusal.retry_after, Some(3 * SECOND));
        }
    }
}

#[tokio::test]
async fn a_fault_can_have_a_body_and_headers() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    let (emulator, _) = start().await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let ask = async |fault: Fault| {
        emulator.clear_faults();
        emulator.fault(fault);
        let path = format!("{}/api/1/auth/introspection", emulator.base_url());
        let answer = client.get(path.parse().unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    };
    let busy = Fault::status(502).with_body("<html>").header("content-type", "text/html");
    let (head, body) = ask(busy.header("x-a", "1").header("x-a", "2")).await;
    assert_eq!((head.status.as_u16(), body.as_str()), (502, "<html>"));
    let all: Vec<_> = head.headers.get_all("content-type").iter().collect();
    assert_eq!(all, ["text/html"]);
    assert_eq!(head.headers.get_all("x-a").iter().count(), 2);
    let (head, body) = ask(Fault::json(serde_json::json!({ "action": "OK" }))).await;
    assert_eq!((head.status.as_u16(), body.as_str()), (200, r#"{"action":"OK"}"#));
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for (fault, expected) in [
        (Fault::status(503).retry_after(7), "7"),
        (Fault::status(503).retry_after(8 * SECOND), "8"),
        (Fault::status(503).retry_after(date), date),
    ] {
        let (head, body) = ask(fault).await;
        assert_eq!(head.headers["retry-after"], expected);
        assert!(body.contains("A001101"));
    }
}

#[tokio::test]
async fn a_reset_is_seen_as_one() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (emulator, _) = start().await;
    emulator.fault(Fault::reset());
    let address = emulator.base_url().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let path = format!("/api/{}/auth/introspection", emulator.service_id());
    let request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_has_taken_effect() {
    let (emulator, authlete) = start().await;
    let hasty = emulator.client_builder().deadline(SECOND / 5).build().unwrap();
    for (fault, is_lost) in [
        (Fault::hang(), true),
        (Fault::reset(), true),
        (Fault::truncated(), true),
        (Fault::status(503), false),
        (Fault::body("<html>"), false),
    ] {
        let token = emulator.token().issue().await;
        emulator.fault(fault.on(Api::TokenRevoke).times(1));
        let request = TokenRevokeRequest::new().access_token_identifier(token.as_str());
        hasty.token_revoke(&request).await.unwrap_err();
        assert_eq!(is_good(&authlete, &token).await, !is_lost);
    }
}

#[tokio::test]
async fn a_held_answer_was_decided_when_its_call_arrived() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    let hold = emulator.hold(Api::Introspection);
    let asking = tokio::spawn({
        let (authlete, token) = (authlete.clone(), token.clone());
        async move { is_good(&authlete, &token).await }
    });
    emulator.arrived(Api::Introspection, 1).await;
    assert!(emulator.revoke(&token));
    hold.release();
    assert!(asking.await.unwrap());
    drop(emulator.hold(Api::Introspection));
    assert!(!is_good(&authlete, &token).await);
}

#[tokio::test]
async fn an_emulator_that_is_dropped_is_gone() {
    let (emulator, authlete) = start().await;
    assert!(!is_good(&authlete, "abc").await);
    drop(emulator);
    let request = IntrospectionRequest::new().token("abc");
    let error = authlete.introspection(&request).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Connection(_)), "{error:?}");
}
