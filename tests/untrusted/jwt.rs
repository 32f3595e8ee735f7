//! Access tokens that are JWTs.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    shared::{NOW, now},
    signing::{X, sign},
};
use crate::precheck::{JwtKeys, JwtPrecheck, Precheck};

/// Input: a token; or on two lines its header and its claims, which are then signed. A token passes only if
/// it satisfies RFC 9068 §4, and one that plainly satisfies it passes.
pub fn jwt(input: &str) {
    const ISSUER: &str = "https://as.example.com";
    let key = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","x":"{}"}}]}}"#, X);
    let Ok(keys) = JwtKeys::from_json(key) else { panic!("no key") };
    let precheck = Precheck::from(JwtPrecheck::new(&keys).issuer(ISSUER).known_keys_only());
    let fits = |token: &str| precheck.has_shape(token) && precheck.fits_closely(token, Some(now()));
    let Some((header, claims)) = input.split_once('\n') else {
        return assert!(!fits(input), "{input}");
    };
    let fits = fits(&sign(header, claims));
    let object = |json| serde_json::from_str::<serde_json::Map<_, _>>(json).ok();
    let repeats =
        |json| serde_json::from_str::<Members>(json).is_ok_and(|members| members.repeat());
    let repeats = repeats(header) || repeats(claims);
    let (Some(header), Some(claims)) = (object(header), object(claims)) else {
        return assert!(!fits, "{input}");
    };
    let text = |object: &serde_json::Map<_, _>, name| {
        object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let typ = text(&header, "typ").to_ascii_lowercase();
    let named = header.get("kid").is_none_or(Value::is_null) || text(&header, "kid") == "1";
    let lives = match claims.get("exp") {
        None | Some(Value::Null) => true,
        Some(exp) => exp.as_f64().is_some_and(|exp| exp + 60.0 > NOW as f64),
    };
    let may = ["at+jwt", "application/at+jwt"].contains(&typ.as_str())
        && ["EdDSA", "Ed25519"].contains(&text(&header, "alg").as_str())
        && named
        && lives
        && text(&claims, "iss") == ISSUER;
    let strange = |object: &serde_json::Map<_, _>, most| object.len() > most;
    // Of members that are repeated, `may` goes by the last; RFC 7515 §4 lets them be refused.
    let plain = !strange(&header, 3) && !strange(&claims, 2) && !repeats;
    assert!(fits == may || (may && !plain), "{fits}: {input}");
}

/// The names of an object's members, in order.
struct Members(Vec<String>);

impl Members {
    fn repeat(&self) -> bool {
        let Self(names) = self;
        (1..names.len()).any(|index| names[..index].contains(&names[index]))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Members(names))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::super::strategies::{CASES, lines, seeds};
    use super::*;

    #[test]
    fn it_holds_of_all_seeds() {
        seeds("jwt").iter().for_each(|seed| jwt(str::from_utf8(seed).unwrap()));
    }

    #[rustfmt::skip]
    const JWTS: &[&str] = &[
        r#"{"typ":"at+jwt","alg":"EdDSA","kid":"1"}"#, r#"{"iss":"https://as.example.com","exp":2000000000}"#,
        r#"{"typ":"at+jwt","#, r#""typ":"application/AT+JWT""#, r#""typ":"JWT""#, r#""alg":"EdDSA""#, r#""alg":"Ed25519""#,
        r#""alg":"none""#, r#""alg":"HS256""#, r#""alg":"ES256""#, r#""kid":"1""#, r#""kid":null"#,
        r#""kid":"2""#, r#""iss":"https://as.example.com""#, r#""iss":null"#, r#""exp":1999999940"#,
        r#""exp":1999999941"#, r#""exp":1e300"#, r#""exp":-1"#, r#""exp":"1""#, "{", "}", ",", "\n", ".", "[]",
        "null",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn tokens_that_fit_are_what_they_have_to_be(input in lines(JWTS)) {
            jwt(&String::from_utf8_lossy(&input));
        }

        #[test]
        fn tokens_whose_parts_are_objects_fit_if_they_are_so(
            header in vec(select(JWTS), 0..4),
            claims in vec(select(JWTS), 0..3),
        ) {
            jwt(&format!("{{{}}}\n{{{}}}", header.join(","), claims.join(",")));
        }
    }
}
