//! The origin of `htu`: configured, or read from the headers of a trusted proxy.

use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    Dpop,
    proof::{Origin, PeerAddr},
};

use crate::{
    holder::{Holder, assert_refused},
    log::logged,
    support::{Bench, ORIGIN, SECOND, send},
};

fn by_forwarded() -> Dpop {
    Dpop::for_origin(Origin::forwarded_by(["10.0.0.0/8"], ["api.example.com"]))
}

fn by_x_forwarded(hosts: &[&str]) -> Dpop {
    Dpop::for_origin(Origin::x_forwarded_by(["10.0.0.0/8"], hosts.iter().copied()))
}

#[tokio::test]
async fn host_and_forwarding_headers_are_ignored_by_default() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let (token, evil) = (format!("DPoP {}", holder.token), "https://evil.example/");
    let forged = holder.proof(json!({ "htu": evil }));
    for name in ["host", "x-forwarded-host", "forwarded"] {
        let value =
            if name == "forwarded" { "host=evil.example;proto=https" } else { "evil.example" };
        let headers = [("authorization", &*token), ("dpop", &forged), (name, value)];
        assert_refused(&holder.api.send(&headers).await, "invalid_dpop_proof", name);
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_origin_is_what_it_says() {
    let bench = Bench::new().await;
    let dpop = by_forwarded();
    let holder = Holder::with(&bench, |_| dpop, |layer| layer).await;
    let send = async |peer: Option<&str>, host: &str| {
        let mut request = holder.request("/", &holder.proof(json!({})));
        let forwarded = format!("for=1.1.1.1;proto=https;host={host}");
        request.headers_mut().insert("forwarded", forwarded.parse().unwrap());
        if let Some(peer) = peer {
            request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
        }
        send(holder.api.router.clone(), request).await.status
    };
    assert_eq!(send(Some("10.0.0.1:1"), "api.example.com").await, StatusCode::OK);
    assert_eq!(send(Some("10.0.0.1:1"), "evil.example").await, StatusCode::UNAUTHORIZED);
    // A request of another peer, and one without `PeerAddr`.
    for peer in [Some("11.0.0.1:1"), None] {
        assert_eq!(send(peer, "api.example.com").await, StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test]
async fn the_last_of_several_forwarding_headers_counts() {
    let bench = Bench::new().await;
    let dpop = by_forwarded();
    let holder = Holder::with(&bench, |_| dpop, |layer| layer).await;
    let send = async |hosts: [&str; 2]| {
        let lines = hosts.map(|host| format!("proto=https;host={host}"));
        let lines = lines.each_ref().map(|line| ("forwarded", line.as_str()));
        holder.through_proxy("/", &lines, &format!("{ORIGIN}/")).await.status
    };
    assert_eq!(send(["evil.example", "api.example.com"]).await, StatusCode::OK);
    assert_eq!(send(["api.example.com", "evil.example"]).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_host_in_a_forwarding_header_must_be_configured() {
    let bench = Bench::new().await;
    let hosts = ["API.example.com", "shop.example:8443", "[2001:DB8::1]"];
    let holder = Holder::with(&bench, |_| by_x_forwarded(&hosts), |layer| layer).await;
    let get = async |proto: &str, host: &str, url: &str| {
        let headers = [("x-forwarded-proto", proto), ("x-forwarded-host", host)];
        holder.through_proxy("/", &headers, url).await
    };
    for (proto, host, url) in [
        ("https", "api.example.com", "https://api.example.com/"),
        ("HTTPS", "Api.Example.Com:443", "https://api.example.com/"),
        ("https", "api.example.com:", "https://api.example.com/"),
        ("http", "api.example.com:80", "http://api.example.com/"),
        ("https", "shop.example:8443", "https://SHOP.example:8443/"),
        ("https", "[2001:db8::1]:443", "https://[2001:db8::1]/"),
    ] {
        assert_eq!(get(proto, host, url).await.status, StatusCode::OK, "{proto} {host}");
    }
    for (proto, host) in [
        ("https", "evil.example"),
        ("https", "api.example.com.evil.example"),
        ("https", "evil.api.example.com"),
        ("https", "api.example.com."),
        ("https", "api.example.com:444"),
        ("http", "api.example.com:443"),
        ("https", "api.example.com:65979"),
        ("https", "shop.example"),
        ("https", "user@api.example.com"),
        ("ftp", "api.example.com"),
        ("https", ""),
        ("https", "api.example.com, "),
    ] {
        for url in [format!("{proto}://{host}/"), format!("{ORIGIN}/")] {
            let answer = get(proto, host, &url).await;
            assert_refused(&answer, "invalid_dpop_proof", &format!("{proto} {host} {url}"));
        }
    }
}

#[tokio::test]
async fn forwarded_elements_of_a_client_cannot_change_those_of_its_proxy() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, |_| by_forwarded(), |layer| layer).await;
    let own = "for=192.0.2.1;proto=https;host=api.example.com";
    for chosen in [
        "host=evil.example;proto=https;by=\"",
        "host=api.example.com;proto=https;by=\"",
        "host=api.example.com;proto=https;by=\"\\",
        "host=api.example.com;proto=https;host=api.example.com",
        "rubbish",
        "for=\u{e9}",
    ] {
        for line in [
            &[("forwarded", &*format!("{chosen}, {own}"))][..],
            &[("forwarded", chosen), ("forwarded", own)],
        ] {
            for url in ["https://evil.example/", "https://api.example.com/"] {
                let (log, _guard) = logged();
                let answer = holder.through_proxy("/", line, url).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{chosen} {url}");
                assert!(answer.challenge().contains("error=\"invalid_request\""), "{chosen}");
                assert!(!log.text().contains("ERROR"), "{chosen}: {}", log.text());
            }
        }
    }
    for chosen in
        ["host=evil.example;proto=https", "for=\"a, \\\" b;c\"", ",", "for=1;for2=\"[::1]:80\""]
    {
        let line = [("forwarded", &*format!("{chosen}, {own}"))];
        let answer = holder.through_proxy("/", &line, "https://evil.example/").await;
        assert_refused(&answer, "invalid_dpop_proof", chosen);
        let answer = holder.through_proxy("/", &line, "https://api.example.com/").await;
        assert_eq!(answer.status, StatusCode::OK, "{chosen}");
    }
}

#[tokio::test]
async fn a_missing_header_of_a_trusted_proxy_is_500() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, |_| by_forwarded(), |layer| layer).await;
    for headers in [&[][..], &[("forwarded", "for=192.0.2.1")], &[("forwarded", "")]] {
        let (log, _guard) = logged();
        let answer = holder.through_proxy("/", headers, ORIGIN).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{headers:?}");
        assert!(log.text().contains("ERROR"), "{headers:?}");
        // The error is logged once in 10 s.
        bench.clock.advance(10 * SECOND);
    }
}

#[tokio::test]
async fn the_origin_is_read_from_the_configured_header_only() {
    let bench = Bench::new().await;
    let hosts = ["api.example.com"];
    let holder = Holder::with(&bench, |_| by_x_forwarded(&hosts), |layer| layer).await;
    let headers = [
        ("forwarded", "proto=https;host=evil.example"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-proto", "https"),
    ];
    let answer = holder.through_proxy("/", &headers, "https://evil.example/").await;
    assert_ne!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn paths_with_dot_segments_are_refused() {
    let bench = Bench::new().await;
    let (prefixed, plain) = ("https://example.com/api", "https://example.com");
    for origin in [prefixed, plain] {
        let holder = Holder::with(&bench, |_| Dpop::for_origin(origin), |layer| layer).await;
        let at = async |path: &str, url: &str| {
            holder.present_at(path, &holder.proof(json!({ "htu": url }))).await
        };
        // Token and key are cached.
        assert_eq!(at("/", &format!("{origin}/")).await.status, StatusCode::OK);
        for path in [
            "/../shop/buy",
            "/%2e%2e/shop/buy",
            "/%2E%2e/shop/buy",
            "/.%2E/shop/buy",
            "/%2e./shop/buy",
            "/x/../../shop/buy",
            "/./read",
            "/%2e/read",
            "/read/..",
            "/read/.",
            "/read/%2E%2E",
            "/read/%2e?a=b",
        ] {
            let urls = [
                format!("{plain}/shop/buy"),
                format!("{origin}{path}"),
                format!("{origin}/read"),
                format!("{origin}/read/"),
                format!("{origin}/"),
            ];
            for url in urls {
                assert_refused(
                    &at(path, &url).await,
                    "invalid_dpop_proof",
                    &format!("{path} {url}"),
                );
            }
        }
        // These are no dot segments.
        for path in ["/..a", "/a..", "/...", "/.well-known/x", "/a%2e%2e", "/?../x"] {
            let url = format!("{origin}{}", path.split('?').next().unwrap());
            let status = at(path, &url).await.status;
            assert!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&status), "{path} {status}");
        }
    }
}
