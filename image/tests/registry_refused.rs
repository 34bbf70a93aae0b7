//! Registries that mean harm, or cannot do it: what is said of them, and that nothing stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::time::{Duration, Instant};

use beluga_image::{Digest, Keyring, LoadError, PullOptions, PullProgress, Registry};
use serde_json::json;
use support::layout::{INDEX, Layout, config, descriptor};
use support::registry::{
    Answer, Asked, Fake, blob_path, from_layout, pull, pull_as, refused, with,
};
use support::store::{large, layer, store, told};

#[test]
fn wrong_contents_and_sizes_leave_nothing() {
    let tar = large(8);
    let layout = Layout::image("app:1", &[&layer("one"), &tar]);
    let mut other = tar.clone();
    other[700_000] ^= 1;
    let said = refused(with(&layout, blob_path(&tar), other));
    assert!(said.contains("has the wrong contents"), "{said}");
    let said = refused(with(&layout, blob_path(&tar), tar[..1000].to_vec()));
    assert!(
        said.contains("has 1000 bytes, its manifest says 901"),
        "{said}"
    );
    let mut longer = tar.clone();
    longer.push(0);
    let said = refused(with(&layout, blob_path(&tar), longer));
    assert!(said.contains("its manifest says"), "{said}");
    let configuration = config("amd64", &[&layer("one"), &tar]);
    let said = refused(with(&layout, blob_path(&configuration), b"{}".to_vec()));
    assert!(said.contains("has the wrong contents"), "{said}");
}

#[test]
fn indexes_are_bounded_in_depth_and_number() {
    // One that names itself: no digest can be right, so any is wrong.
    let own = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": INDEX, "digest": Digest::of(b"itself"), "size": 200}]});
    let own = own.to_string().into_bytes();
    let said = refused(move |_| Answer::of(200, &own));
    assert!(said.contains("has the wrong contents"), "{said}");

    let mut layout = Layout::default();
    let top = layout.indexes(10);
    let said = refused(with(&layout, "/manifests/1".into(), top));
    assert!(said.contains("lies too deep in other indexes"), "{said}");

    let many: Vec<_> = (0..100)
        .map(|number| {
            let empty = json!({"schemaVersion": 2, "manifests": [], "n": number}).to_string();
            layout.blob(empty.as_bytes());
            descriptor(INDEX, empty.as_bytes())
        })
        .collect();
    let top = json!({"schemaVersion": 2, "manifests": many})
        .to_string()
        .into_bytes();
    let said = refused(with(&layout, "/manifests/1".into(), top));
    assert!(said.contains("leads to more than 32 documents"), "{said}");
}

#[test]
fn what_is_too_long_is_refused_by_name() {
    let said = refused(|_| Answer::of(200, &vec![b' '; (4 << 20) + 1]));
    assert!(
        said.contains("manifest 1 of app is longer than 4194304 bytes"),
        "{said}"
    );
    let said = refused(|_| Answer::of(200, b"{}").header("X", "y".repeat(100_000)));
    assert!(
        said.contains("the head of an answer is longer than 65536 bytes"),
        "{said}"
    );
    let layout = Layout::image("app:1", &[&layer("one")]);
    let manifest = layout.files.last().unwrap().1.clone();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["size"] = json!(1_u64 << 60);
    let said = refused(with(
        &layout,
        "/manifests/1".into(),
        manifest.to_string().into_bytes(),
    ));
    assert!(
        said.contains("has 1152921504606846976 bytes, more than"),
        "{said}"
    );
}

#[test]
fn redirects_end() {
    let said = refused(|asked| Answer::of(302, b"").header("Location", asked.path.clone()));
    assert!(said.contains("redirects more than 5 times"), "{said}");
    let said = refused(|_| Answer::of(302, b"").header("Location", "file:///etc/passwd"));
    assert!(
        said.contains("\"file:///etc/passwd\", which is no address"),
        "{said}"
    );
}

#[test]
fn other_things_than_images_are_refused_by_their_type() {
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let said = refused(move |_| {
        let body = b"{\"schemaVersion\":1,\"fsLayers\":[]}";
        Answer::of(200, body).header("Content-Type", old)
    });
    assert!(said.contains(old), "{said}");
    let said =
        refused(|_| Answer::of(200, b"<html>").header("Content-Type", "text/html; charset=utf-8"));
    assert!(
        said.contains("is no document of an image, and comes as \"text/html\""),
        "{said}"
    );
    let said = refused(|_| Answer::of(401, b"").header("WWW-Authenticate", "Negotiate"));
    assert!(
        said.contains("asks for \"Negotiate\" authentication"),
        "{said}"
    );
    assert!(matches!(
        pull(&store().1, &"127.0.0.1:1/app".parse().unwrap()),
        Err(LoadError::Registry(error)) if error.is_passing()
    ));
}

#[test]
fn a_redirect_that_leads_nowhere_is_not_the_registrys_fault() {
    let one = layer("one");
    let path = blob_path(&one);
    let layout = Layout::image("app:1", &[&one]);
    let (_scratch, store) = store();
    let fake = Fake::start(move |asked| match asked.path.contains(&path) {
        true => Answer::of(307, b"").header("Location", "http://127.0.0.1:1/x"),
        false => from_layout(&layout, asked),
    });
    let error = pull(&store, &fake.name("app:1")).unwrap_err();
    let said = told(&error);
    assert!(
        said.contains("sends us to http://127.0.0.1:1, which cannot be reached"),
        "{said}"
    );
}

#[test]
fn a_wait_of_hours_is_told_and_not_made() {
    let begun = Instant::now();
    let said = refused(|_| Answer::of(429, b"").header("Retry-After", "21600"));
    assert!(said.contains("it wants to be asked again in 6 h"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_wait_is_told_and_ends_with_the_pull() {
    let (_scratch, store) = store();
    let fake = Fake::start(|_| Answer::of(503, b"").header("Retry-After", "25"));
    let options = PullOptions::default();
    let (registry, mut waits) = (Registry::default(), Vec::new());
    let begun = Instant::now();
    let error = store
        .pull(&fake.name("app:1"), &registry, &options, &mut |step| {
            if let PullProgress::Busy { host, wait } = step {
                waits.push((host, wait));
                options.cancel.cancel();
            }
        })
        .unwrap_err();
    assert!(matches!(error, LoadError::Cancelled), "{error}");
    assert_eq!(waits, [(fake.address.clone(), Duration::from_secs(25))]);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_refusal_says_with_which_credentials_was_asked() {
    let basic = |_: &Asked| Answer::of(401, b"").header("WWW-Authenticate", "Basic realm=\"x\"");
    let (scratch, store) = store();
    let fake = Fake::start(basic);
    let mut keyring = Keyring::default();
    let file = scratch.0.join("auth.json");
    keyring.add_file(&file).unwrap();
    let error = pull_as(&store, &fake.name("app:1"), keyring).unwrap_err();
    let (said, file) = (told(&error), file.display());
    let nothing = format!("there are no credentials for {} in {file}", fake.address);
    assert!(said.contains(&nothing), "{said}");
    let auth = json!({"auths": {&fake.address: {"username": "joe", "password": "x"}}});
    let file = scratch.file("auth.json", auth.to_string().as_bytes());
    let mut keyring = Keyring::default();
    keyring.add_file(&file).unwrap();
    let error = pull_as(&store, &fake.name("app:1"), keyring).unwrap_err();
    let said = told(&error);
    let refused = format!(
        "does not take the credentials of \"joe\" from {}",
        file.display()
    );
    assert!(said.contains(&refused), "{said}");
}
