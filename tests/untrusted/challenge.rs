//! Challenges of the layer and of Authlete.

use super::shared::read;
use crate::{
    credentials::Scheme,
    rejection::challenge::{Challenge, Challenges},
};

/// Input: realm, URL of the metadata, algorithms and a challenge, each on a line of its own. A
/// challenge that is built reads as what it was built of, and is nothing but visible ASCII.
pub fn challenge(input: &str) {
    let mut lines = input.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let text = |line: &str| Some(line.to_owned()).filter(|line| !line.is_empty());
    let mut challenges = Challenges {
        realm: text(line()),
        resource_metadata: text(line()),
        algorithms: text(line()),
        only_dpop: false,
    };
    let content = line();
    let made = Challenge::default()
        .param("error", Some("invalid_token"))
        .param("error_description", Some(content.to_owned()))
        .param("scope", text(content));
    let written = Challenge::parse(content);
    for only_dpop in [false, true] {
        challenges.only_dpop = only_dpop && challenges.algorithms.is_some();
        for used in [Scheme::Bearer, Scheme::Dpop] {
            for wrong in [Some(&Challenge::default()), Some(&made), written.as_ref()] {
                wrong.into_iter().for_each(|wrong| built(&challenges, used, wrong));
            }
        }
    }
}

fn built(challenges: &Challenges, used: Scheme, wrong: &Challenge) {
    for (place, header) in challenges.headers(used, wrong).iter().enumerate() {
        let (scheme, params) = read(header).unwrap_or_else(|| panic!("{header:?}"));
        let find = |name: &str| params.iter().find(|(held, _)| held == name).map(|(_, it)| it);
        let own = |name: &str| wrong.get(name).filter(|_| place == 0);
        let algorithms = challenges.algorithms.as_deref().filter(|_| scheme == "DPoP");
        for (name, ours) in [
            ("error", None),
            ("error_description", None),
            ("scope", None),
            ("realm", challenges.realm.as_deref()),
            ("resource_metadata", challenges.resource_metadata.as_deref()),
            ("algs", algorithms),
        ] {
            let plain = ["error", "error_description", "scope"].contains(&name);
            let legal = if plain { plain_text } else { visible };
            let expected = own(name).or(ours).map(legal);
            let theirs = params.iter().any(|(held, _)| held.eq_ignore_ascii_case(name));
            assert!(find(name) == expected.as_ref() || theirs, "{name} of {header:?}");
        }
        assert!(matches!(scheme.as_str(), "Bearer" | "DPoP"), "{header:?}");
    }
}

/// RFC 6750 §3.
fn plain_text(text: &str) -> String {
    visible(text).replace('"', "'").replace('\\', "?")
}

fn visible(text: &str) -> String {
    text.chars().map(|char| if matches!(char, ' '..='~') { char } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::strategies::{CASES, lines, seeds};
    use super::*;

    #[test]
    fn it_holds_of_all_seeds() {
        seeds("challenge").iter().for_each(|seed| challenge(str::from_utf8(seed).unwrap()));
    }

    #[rustfmt::skip]
    const CHALLENGES: &[&str] = &[
        "Bearer", "DPoP", "Basic", " ", "\n", "\r", "\t", "\"", "\\", ",", "=", "é", "\u{0}", "\u{7f}",
        "error=", "ERROR=", "realm=", "Realm=", "scope=", "algs=", "resource_metadata=", "\"a\"", "a",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn challenges_read_as_they_were_made(input in lines(CHALLENGES)) {
            challenge(&String::from_utf8_lossy(&input));
        }
    }
}
