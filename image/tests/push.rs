//! Pushes that come to no end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::sync::{Arc, Mutex};

use beluga_image::{Cancel, Digest, PushError, PushOptions, Registry, Store};
use support::Scratch;
use support::layout::Layout;
use support::registry::{Answer, Asked, Fake};
use support::store::{layer, load};

/// A registry that has nothing: it opens uploads at addresses of its own and takes what is sent.
/// `begun` is called when it has opened one.
fn empty(begun: impl Fn() + Send + Sync + 'static) -> Fake {
    let opened = Arc::new(Mutex::new(0));
    Fake::start(move |asked| match asked.method.as_str() {
        "POST" => {
            let mut opened = opened.lock().unwrap();
            *opened += 1;
            begun();
            let location = format!("/v2/app/blobs/uploads/number-{opened}?_state=x%3D");
            Answer::of(202, b"").header("Location", location)
        }
        "PUT" => Answer::of(201, b""),
        "DELETE" => Answer::of(204, b""),
        _ => Answer::of(404, b""),
    })
}

/// The paths that were asked for by a method.
fn asked(fake: &Fake, method: &str) -> Vec<String> {
    let all = fake.asked.lock().unwrap();
    let found = all.iter().filter(|asked: &&Asked| asked.method == method);
    found.map(|asked| asked.path.clone()).collect()
}

/// A store with an image of three layers; how pushing it to that registry ends.
fn push(fake: &Fake, cancel: &Cancel, damage: bool) -> Result<Digest, PushError> {
    let scratch = Scratch::new();
    let store = Store::open(scratch.0.join("store")).unwrap();
    let tars = ["one", "two", "three"].map(layer);
    let layout = Layout::image("app:1", &[&tars[0], &tars[1], &tars[2]]);
    let loaded = load(&store, &layout.directory(&scratch, "oci")).unwrap();
    if damage {
        let blob = store
            .root()
            .join("blobs/sha256")
            .join(Digest::of(&tars[1]).hex());
        fs::write(blob, vec![7; tars[1].len()]).unwrap();
    }
    let options = PushOptions {
        parallel: 2,
        cancel: cancel.clone(),
    };
    let (name, registry) = (fake.name("app:1"), Registry::default());
    let pushed = store.push(&loaded[0].image, &name, &registry, &options, &mut |_| {});
    pushed.map(|pushed| pushed.digest)
}

#[test]
fn a_cancelled_push_takes_back_what_it_has_begun() {
    let cancel = Cancel::default();
    let switch = cancel.clone();
    let fake = empty(move || switch.cancel());
    let ended = push(&fake, &cancel, false);
    assert!(matches!(ended, Err(PushError::Cancelled)), "{ended:?}");
    let opened = asked(&fake, "POST").len();
    let mut deleted = asked(&fake, "DELETE");
    deleted.sort();
    let all =
        (1..=opened).map(|number| format!("/v2/app/blobs/uploads/number-{number}?_state=x%3D"));
    assert_eq!(deleted, all.collect::<Vec<_>>());
    assert!((1..=2).contains(&opened));
    assert!(
        !asked(&fake, "PUT")
            .iter()
            .any(|path| path.contains("/manifests/"))
    );
}

#[test]
fn a_push_of_what_is_damaged_takes_it_back() {
    let fake = empty(|| ());
    let ended = push(&fake, &Cancel::default(), true);
    assert!(matches!(ended, Err(PushError::Save(_))), "{ended:?}");
    assert_eq!(asked(&fake, "DELETE").len(), 1);
}

#[test]
fn a_whole_push_takes_nothing_back() {
    let fake = empty(|| ());
    push(&fake, &Cancel::default(), false).unwrap();
    assert_eq!(asked(&fake, "DELETE"), [""; 0]);
    // Three layers, the configuration, the manifest.
    assert_eq!(asked(&fake, "PUT").len(), 5);
}
