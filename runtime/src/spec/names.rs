//! Shapes of names, as the API server has them. Each check gives back what is
//! wrong with a text, as the end of a sentence that begins with it.

/// RFC 1123 label: containers, volumes, host names.
pub fn label(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("is longer than 63 characters");
    }
    if is_label(text) {
        Ok(())
    } else {
        Err("must be lower-case letters, digits and '-', with a letter or digit at both ends")
    }
}

/// RFC 1123 subdomain: pods.
pub fn subdomain(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("is longer than 253 characters");
    }
    if text.split('.').all(is_label) {
        Ok(())
    } else {
        Err(
            "must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends \
             of each part",
        )
    }
}

/// A domain in which names are looked for: parts may begin with an underscore or
/// have one inside, and a single dot means none.
pub fn search_domain(text: &str) -> Result<(), &'static str> {
    if text == "." {
        return Ok(());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_part = |part: &str| {
        let inner = part.strip_prefix('_').unwrap_or(part);
        let is_outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        is_inner(inner, is_outer, b"-_")
    };
    if name.len() <= 253 && name.split('.').all(is_part) {
        Ok(())
    } else {
        subdomain(name)
    }
}

/// What the kernel takes for a hostname: an RFC 1123 subdomain that is short.
pub fn kernel_hostname(text: &str) -> Result<(), &'static str> {
    if text.len() > 64 {
        return Err("is longer than 64 characters");
    }
    subdomain(text)
}

fn is_label(text: &str) -> bool {
    is_inner(
        text,
        |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(),
        b"-",
    )
}

/// Not empty, `outer` at both ends, `outer` or one of `inner` between them.
fn is_inner(text: &str, outer: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&b)) if outer(a) && outer(b))
        && bytes
            .iter()
            .all(|&byte| outer(byte) || inner.contains(&byte))
}

/// Key of a label or annotation: `[prefix/]name`.
pub fn qualified(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_some_and(|prefix| subdomain(prefix).is_err()) {
        return Err("has a prefix that is no DNS name");
    }
    if name.len() > 63 {
        return Err("is longer than 63 characters");
    }
    if is_inner(name, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        Ok(())
    } else {
        Err("must be letters, digits, '-', '_' and '.', with a letter or digit at both ends")
    }
}

/// Value of a label.
pub fn label_value(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("is longer than 63 characters");
    }
    if text.is_empty() || is_inner(text, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        Ok(())
    } else {
        Err("must be letters, digits, '-', '_' and '.', with a letter or digit at both ends")
    }
}

/// Name of a port.
pub fn port_name(text: &str) -> Result<(), &'static str> {
    if text.len() > 15 {
        return Err("is longer than 15 characters");
    }
    if !is_label(text) || text.contains("--") {
        return Err(
            "must be lower-case letters, digits and single '-', with a letter or digit at \
                    both ends",
        );
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Ok(())
    } else {
        Err("must contain a letter")
    }
}

/// Name of an environment variable.
pub fn variable(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
    {
        Ok(())
    } else {
        Err("must be printable ASCII characters without '='")
    }
}

/// Key of a ConfigMap or Secret, which is a file's name as well.
pub fn config_key(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("is longer than 253 characters");
    }
    if text == "." || text.starts_with("..") {
        return Err("must not be '.' or begin with '..'");
    }
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_good) {
        Ok(())
    } else {
        Err("must be letters, digits, '-', '_' and '.'")
    }
}

/// A file's path below a volume's root, which none of the volume's own may be.
pub fn file_path(text: &str) -> Result<(), &'static str> {
    if text.len() > 1024 {
        return Err("is longer than 1024 characters");
    }
    if text.contains('\0') {
        return Err("contains a NUL character");
    }
    if text.starts_with("..") {
        return Err("must not begin with '..'");
    }
    if text.split('/').any(|part| matches!(part, "" | ".")) && !text.starts_with('/') {
        return Err("must not have empty parts or '.'");
    }
    sub_path(text)
}

/// A path below a volume's root.
pub fn sub_path(text: &str) -> Result<(), &'static str> {
    if text.starts_with('/') {
        return Err("must be a relative path");
    }
    if text.split('/').any(|part| part == "..") {
        return Err("must not contain '..'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_shapes_of_kubernetes() {
        assert!(label("a-1").is_ok() && label("0").is_ok());
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(subdomain("a.b-c.d").is_ok());
        for bad in ["", "a..b", ".a", "a.", "a.-b", &"a".repeat(254)] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
        assert!(qualified("app.kubernetes.io/Name_1").is_ok() && qualified("app").is_ok());
        for bad in ["", "/a", "a/", "a/b/c", "A.b/c", "-a"] {
            assert!(qualified(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("v1.2_X").is_ok());
        assert!(port_name("http-2").is_ok());
        for bad in ["", "80", "a--b", "Http", "a234567890123456"] {
            assert!(port_name(bad).is_err(), "{bad}");
        }
        assert!(variable("a.b-C 1").is_ok());
        assert!(variable("a=b").is_err() && variable("").is_err() && variable("ä").is_err());
        assert!(sub_path("a/b..c").is_ok());
        assert!(sub_path("a/../b").is_err() && sub_path("/a").is_err());
    }
}
