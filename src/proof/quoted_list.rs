//! Lists of parameters as proxies write them: `key=value;key="a, value", key=value`.
//!
//! `Forwarded` (RFC 7239 §4) and Envoy's `x-forwarded-client-cert` are such lists. Clients choose parts
//! of both, so a text is read as a whole or not at all.

use std::borrow::Cow;

/// An element has at most so many parameters, apart from those that may repeat.
const MAX_PARAMETERS: usize = 16;

/// A text is no such list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What one proxy wrote: parameters in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'t>(pub(super) Vec<Parameter<'t>>);

/// A key in the case in which it was written, and its value without quotes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter<'t> {
    key: &'t str,
    pub(super) value: Cow<'t, str>,
}

impl<'t> Element<'t> {
    /// The value of a key.
    pub(super) fn take(&mut self, key: &str) -> Option<Cow<'t, str>> {
        let place = self.0.iter().position(|it| it.is(key))?;
        Some(self.0.swap_remove(place).value)
    }

    fn push(&mut self, parameter: Parameter<'t>, repeatable: &[&str]) -> Result<(), Malformed> {
        let repeats = |key: &str| repeatable.iter().any(|it| it.eq_ignore_ascii_case(key));
        if !repeats(parameter.key) {
            let single = || self.0.iter().filter(|it| !repeats(it.key));
            if single().count() >= MAX_PARAMETERS || single().any(|it| it.is(parameter.key)) {
                return Err(Malformed);
            }
        }
        self.0.push(parameter);
        Ok(())
    }
}

impl Parameter<'_> {
    /// Whether this is its key, in any case.
    pub(super) fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key)
    }
}

/// The elements of a list that are not empty (RFC 9110 §5.6.1.2). Keys are in any case.
///
/// A value stands in quotes as a whole (RFC 9110 §5.6.4), or holds neither quotes nor separators.
///
/// # Errors
/// If the text ends within quotes, or after a backslash there; if there is anything between quotes and
/// the next separator; if a parameter has no key or no value; if a key repeats within an element but for
/// those that may; or if an element has more than 16 parameters of other keys.
pub(super) fn parse<'t>(text: &'t str, repeatable: &[&str]) -> Result<Vec<Element<'t>>, Malformed> {
    let mut elements = vec![Element::default()];
    let mut rest = trim(text);
    loop {
        if !rest.is_empty() && !rest.starts_with(SEPARATORS) {
            let (parameter, after) = parameter(rest)?;
            if let Some(element) = elements.last_mut() {
                element.push(parameter, repeatable)?;
            }
            rest = trim(after);
        }
        let Some(separator) = rest.chars().next() else { break };
        match separator {
            ',' => elements.push(Element::default()),
            ';' => {}
            _ => return Err(Malformed),
        }
        rest = trim(&rest[1..]);
    }
    elements.retain(|element| !element.0.is_empty());
    Ok(elements)
}

const SEPARATORS: [char; 2] = [',', ';'];

/// Without optional white space (RFC 9110 §5.6.3).
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The parameter that a text begins with, and what follows.
fn parameter(text: &str) -> Result<(Parameter<'_>, &str), Malformed> {
    let (key, rest) = text.split_once('=').ok_or(Malformed)?;
    if key.is_empty() || !key.bytes().all(is_token) {
        return Err(Malformed);
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let (value, rest) = rest.split_at(rest.find(SEPARATORS).unwrap_or(rest.len()));
            if value.contains('"') {
                return Err(Malformed);
            }
            (Cow::Borrowed(trim(value)), rest)
        }
    };
    Ok((Parameter { key, value }, rest))
}

/// A value up to its closing quote, and what follows.
fn unquote(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
    let end = text.find(['"', '\\']).ok_or(Malformed)?;
    if text.as_bytes()[end] == b'"' {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '"' => return Ok((Cow::Owned(value), &text[place + 1..])),
            '\\' => value.push(chars.next().ok_or(Malformed)?.1),
            _ => value.push(char),
        }
    }
    Err(Malformed)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As one text, in which `|` stands before each parameter and `/` after each element.
    fn read(text: &str) -> Result<String, Malformed> {
        let elements = parse(text, &["dns"])?;
        let parameter = |it: &Parameter<'_>| format!("|{}={}", it.key, it.value);
        Ok(elements.iter().map(|it| it.0.iter().map(parameter).collect::<String>() + "/").collect())
    }

    #[test]
    fn elements_have_parameters_with_values_in_quotes_or_without() {
        for (text, expected) in [
            ("a=b", "|a=b/"),
            ("A=b=c;d=\"e\"", "|A=b=c|d=e/"),
            (r#" a="b,c;d=\"\\e" ; f=[::1]:80 ,, g= ;;, "#, r#"|a=b,c;d="\e|f=[::1]:80/|g=/"#),
            ("a=\"\"", "|a=/"),
            ("a=\"é\\é\"", "|a=éé/"),
            ("dns=a;DNS=b;x=é", "|dns=a|DNS=b|x=é/"),
            ("a=b,a=c", "|a=b/|a=c/"),
            ("", ""),
            (" ", ""),
            (" , ;\t", ""),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_such_list_is_malformed_as_a_whole() {
        for wrong in [
            "a",
            "=b",
            "a b=c",
            "a =b",
            "a,b=c",
            "\"a\"=b",
            "a=\"",
            "a=\"b",
            "a=\"b\\",
            "a=\"b\\\"",
            "a=\"b\"c",
            "a=\"b\" c=d",
            "a= \"b\"",
            "a=b\"c\"",
            "a=b\"",
            "a=b;c",
            "a=b;A=c",
            "a=b;c=\"d;a=e\";a=f",
            "ä=b",
            "ok=1, a=\"",
            "ok=1, a=1;a=1",
        ] {
            assert_eq!(read(wrong), Err(Malformed), "{wrong:?}");
        }
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v;")).collect::<String>();
        assert!(read(&many(16)).is_ok() && read(&many(17)).is_err());
        assert!(read(&format!("{}{}", many(16), "dns=a;".repeat(100))).is_ok());
    }

    #[test]
    fn a_value_is_found_by_its_key_in_any_case() {
        let mut elements = parse("Host=a;proto=\"b\"", &[]).unwrap();
        let element = &mut elements[0];
        assert_eq!(element.take("host").as_deref(), Some("a"));
        assert_eq!(element.take("PROTO").as_deref(), Some("b"));
        assert_eq!(element.take("by"), None);
    }
}
