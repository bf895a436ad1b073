//! What a service says of a failure, in HTML or JSON → its reason, in plain words.

use serde_json::Value;

/// The most bytes of a page that are looked at: its reason stands in front.
const PAGE: usize = 16 << 10;
/// The longest name of a character.
const NAME: usize = 10;
/// The most characters of a reason that are told.
const LONGEST: usize = 400;

/// The reason in the body of an answer; empty if none is found.
pub(super) fn reason(body: &[u8]) -> String {
    let found = match serde_json::from_slice::<Value>(body) {
        Ok(value) => in_json(&value).unwrap_or_default().to_string(),
        Err(_) => in_html(&String::from_utf8_lossy(&body[..body.len().min(PAGE)])),
    };
    // Behind this a checker of schemas shows all of the schema.
    let found = found.split("Failed validating").next().unwrap_or_default();
    let mut words = String::new();
    for word in found.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if let Some((end, _)) = words.char_indices().nth(LONGEST) {
            words.truncate(end);
            words.push_str(" [...]");
            break;
        }
    }
    words.trim_end_matches('.').to_string()
}

/// `{"error": {"message": ...}}` as Keystone says it, or the same in fewer layers.
fn in_json(value: &Value) -> Option<&str> {
    let inner = value.get("error").unwrap_or(value);
    ["message", "title", "description"].iter().find_map(|key| inner.get(key)?.as_str())
}

/// A page: what stands behind its explanation, or else that.
fn in_html(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    if !lower.contains("<html") && !lower.contains("<body") {
        return page.to_string();
    }
    let from = ["</h1>", "<body>"].iter().find_map(|tag| Some(lower.find(tag)? + tag.len()));
    // Lower case of ASCII letters alone: the places are the same in both.
    let text = page.get(from.unwrap_or(0)..).unwrap_or_default();
    let mut parts = text.splitn(2, "<br /><br />").map(plain);
    let explanation = parts.next().unwrap_or_default();
    let detail = parts.next().unwrap_or_default();
    if detail.trim().is_empty() { explanation } else { detail }
}

/// Text without its tags, and with its characters as they are meant.
fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (end, most) = if rest.starts_with('<') { ('>', usize::MAX) } else { (';', NAME) };
        let Some(len) = rest.find(end).filter(|len| *len <= most) else {
            // It begins nothing.
            text.push_str(&rest[..1]);
            rest = &rest[1..];
            continue;
        };
        if end == ';' {
            text.push_str(&character(&rest[1..len]));
        }
        rest = &rest[len + 1..];
    }
    text.push_str(rest);
    text
}

/// What a name between `&` and `;` stands for.
fn character(name: &str) -> String {
    let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    });
    match name {
        "amp" => "&".into(),
        "lt" => "<".into(),
        "gt" => ">".into(),
        "quot" => "\"".into(),
        "apos" => "'".into(),
        "nbsp" => " ".into(),
        _ => match number.and_then(char::from_u32) {
            Some(found) => found.into(),
            None => format!("&{name};"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_found_in_what_services_say() {
        let page = |body: &str| {
            let head = "<html>\n <head>\n  <title>415 x</title>\n </head>\n <body>\n  <h1>4</h1>";
            format!("{head}\n  {body}\n </body>\n</html>")
        };
        let pairs = [
            (page("Image ID a already exists!<br /><br />\n\n\n"), "Image ID a already exists!"),
            (page("It is not so.\n<br /><br />\nqcow2 does not match"), "qcow2 does not match"),
            (
                page("&#x27;b&#x27; is none of [&quot;a&quot;]\n\nFailed validating x<br />"),
                "'b' is none of [\"a\"]",
            ),
            (page("a &lt;b&gt; &amp;c; &none; &"), "a <b> &c; &none; &"),
            (r#"{"error": {"code": 401, "message": "No.", "title": "U"}}"#.into(), "No"),
            (r#"{"message": "Denied"}"#.into(), "Denied"),
            (r#"{"x": 1}"#.into(), ""),
            ("plain words".into(), "plain words"),
            ("<html><body>".into(), ""),
            ("<html><b".into(), "<b"),
            (String::new(), ""),
        ];
        for (body, wanted) in pairs {
            assert_eq!(reason(body.as_bytes()), wanted, "{body}");
        }
        assert!(reason("word ".repeat(1000).as_bytes()).len() < 420);
        let many = format!("<html>{}", "<".repeat(1 << 20));
        assert!(reason(many.as_bytes()).len() < 420);
        assert!(reason(&[0xff; 2000]).chars().count() < 420);
    }
}
