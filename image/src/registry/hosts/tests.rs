use super::*;

/// A `certs.d` with one registry in it; gone afterwards.
struct Place(PathBuf);

impl Place {
    fn with(name: &str, registry: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("hosts-{name}-{}", std::process::id()));
        let dir = path.join(registry);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            fs::write(dir.join(file), text).unwrap();
        }
        Place(path)
    }

    fn hosts(&self, registry: &str) -> Result<Vec<Host>, HostsError> {
        hosts(registry, std::slice::from_ref(&self.0))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_registry_is_its_own_host() {
    let found = |name: &str| {
        let host = hosts(name, &[]).unwrap().remove(0);
        (host.scheme, host.authority, host.path)
    };
    let v2 = || "/v2".to_owned();
    assert_eq!(
        found("docker.io"),
        (Scheme::Https, "registry-1.docker.io".into(), v2())
    );
    assert_eq!(
        found("quay.io:8080"),
        (Scheme::Https, "quay.io:8080".into(), v2())
    );
    for (name, scheme) in [
        ("localhost:5000", Scheme::Either),
        ("127.1.2.3:5000", Scheme::Either),
        ("[::1]:5000", Scheme::Either),
        ("localhost:80", Scheme::Http),
        ("localhost:443", Scheme::Https),
        ("localhost.example.com:5000", Scheme::Https),
        ("10.0.0.1:5000", Scheme::Https),
    ] {
        assert_eq!(found(name).0, scheme, "{name}");
    }
}

#[test]
fn mirrors_come_in_the_order_of_the_file_and_the_server_last() {
    let text = r#"
server = "https://up.example"
ca = "up.crt"
[host."https://z.example/team"]
  capabilities = ["pull"]
  client = [["c.cert", "/k/c.key"]]
  [host."https://z.example/team".header]
    X-One = "1"
    X-Two = ["2", "3"]
[host."http://a.example:5000/x/api"]
  override_path = true
  skip_verify = true
  ca = ["/a/b.crt", "c.crt"]
  dial_timeout = "1m500ms"
"#;
    let place = Place::with("order", "docker.io", &[("hosts.toml", text)]);
    let found = place.hosts("docker.io").unwrap();
    let dir = place.0.join("docker.io");
    let names: Vec<_> = found.iter().map(|host| host.authority.as_str()).collect();
    assert_eq!(names, ["z.example", "a.example:5000", "up.example"]);
    assert_eq!(
        (found[0].path.as_str(), found[1].path.as_str()),
        ("/team/v2", "/x/api")
    );
    assert!(found[0].pull && !found[0].resolve && found[2].resolve);
    assert_eq!(
        found[0].client,
        Some((dir.join("c.cert"), Some("/k/c.key".into())))
    );
    assert_eq!(found[0].headers.len(), 3);
    assert_eq!(
        found[1].authorities,
        [PathBuf::from("/a/b.crt"), dir.join("c.crt")]
    );
    assert!(found[1].skip_verify && found[1].scheme == Scheme::Http);
    assert_eq!(found[1].dial_timeout, Some(Duration::from_millis(60_500)));
    assert_eq!(found[2].authorities, [dir.join("up.crt")]);
}

#[test]
fn without_a_server_the_registry_itself_is_the_last() {
    let text = "[host.\"mirror:1\"]\n";
    let place = Place::with("last", "localhost_5000_", &[("hosts.toml", text)]);
    let found = place.hosts("localhost:5000").unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].scheme, Scheme::Https);
    assert_eq!(
        (found[1].authority.as_str(), found[1].scheme),
        ("localhost:5000", Scheme::Either)
    );
}

#[test]
fn certificates_lie_where_docker_has_them() {
    let files = [("a.crt", ""), ("me.cert", ""), ("me.key", "")];
    let place = Place::with("docker", "_default", &files);
    let host = place.hosts("any.example").unwrap().remove(0);
    let dir = place.0.join("_default");
    assert_eq!(host.authorities, [dir.join("a.crt")]);
    assert_eq!(
        host.client,
        Some((dir.join("me.cert"), Some(dir.join("me.key"))))
    );
}

#[test]
fn what_means_nothing_is_refused_with_its_file() {
    for text in [
        "server = 1",
        "server = \"ftp://x\"",
        "[host.\"https://\"]",
        "capabilities = [\"fly\"]",
        "dial_timeout = \"soon\"",
        "ca = [1]",
        "[host",
    ] {
        let place = Place::with("bad", "x", &[("hosts.toml", text)]);
        let error = place.hosts("x").expect_err(text).to_string();
        assert!(error.contains("hosts.toml"), "{error}");
    }
}
