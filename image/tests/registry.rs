//! Registries that break, or want passwords: what is done about it, and what stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use beluga_image::{Digest, Keyring, LoadError, PullOptions, PullProgress, Registry, Store};
use serde_json::json;
use support::layout::{LAYER, Layout, config};
use support::registry::{Answer, Asked, Fake, blob_path, from_layout, pull, pull_as};
use support::store::{gzip, kept, large, layer, store};

#[test]
fn a_broken_connection_goes_on_where_it_was() {
    let (_scratch, store) = store();
    let tar = large(1);
    let layout = Layout::image("app:1", &[&tar]);
    let path = blob_path(&tar);
    let served = AtomicUsize::new(0);
    let fake = Fake::start(move |asked| {
        let mut answer = from_layout(&layout, asked);
        if asked.path.contains(&path) {
            served.fetch_add(answer.body.len().min(250_000), Ordering::Relaxed);
            answer.cut = Some(250_000);
        }
        answer
    });
    let pulled = pull(&store, &fake.name("app:1")).unwrap();
    assert_eq!(pulled.fetched, tar.len() as u64);
    let asked = fake.asked.lock().unwrap();
    let from: Vec<usize> = asked
        .iter()
        .filter(|a| a.path.contains("blobs"))
        .map(|a| a.from)
        .collect();
    assert_eq!(from, [0, 0, 250_000, 500_000, 750_000]);
}

#[test]
fn a_registry_without_ranges_begins_anew() {
    let (_scratch, store) = store();
    let tar = large(2);
    let layout = Layout::image("app:1", &[&tar]);
    let (path, cuts) = (blob_path(&tar), AtomicUsize::new(0));
    let fake = Fake::start(move |asked| {
        let whole = Asked {
            from: 0,
            ..asked.clone()
        };
        let mut answer = from_layout(&layout, &whole);
        if asked.path.contains(&path) && cuts.fetch_add(1, Ordering::Relaxed) == 0 {
            answer.cut = Some(300_000);
        }
        answer
    });
    assert!(pull(&store, &fake.name("app:1")).is_ok());
}

#[test]
fn what_an_interrupted_pull_has_is_not_fetched_again() {
    let (_scratch, store) = store();
    let (one, two) = (large(3), large(4));
    let layout = Layout::image("app:1", &[&one, &two]);
    let path = blob_path(&two);
    let (broken, cut) = (layout.clone(), path.clone());
    let fake = Fake::start(move |asked| {
        let mut answer = from_layout(&broken, asked);
        if asked.path.contains(&cut) {
            answer = if asked.from == 0 {
                Answer {
                    cut: Some(400_000),
                    ..answer
                }
            } else {
                Answer::of(503, b"not now")
            };
        }
        answer.headers.push(("Retry-After".into(), "0".into()));
        answer
    });
    let name = fake.name("app:1");
    let error = pull(&store, &name).unwrap_err();
    assert!(error.is_passing(), "{error}");
    // Another command that opens the store, and sweeps, takes nothing of it away.
    let store = Store::open(store.root()).unwrap();
    assert!(store.list().unwrap().is_empty());
    let again = Fake::of(&layout);
    let pulled = pull(&store, &again.name("app:1")).unwrap();
    assert_eq!(pulled.fetched, two.len() as u64 - 400_000);
    assert!(again.paths(&blob_path(&one)).is_empty());
    let left: Vec<_> = kept(&store)
        .into_iter()
        .filter(|(name, _)| name.contains("ingest"))
        .collect();
    assert_eq!(left, []);
}

#[test]
fn what_was_kept_and_has_lost_something_is_fetched_again() {
    let (_scratch, store) = store();
    let tar = large(5);
    let layout = Layout::image("app:1", &[&tar]);
    let partial = store.root().join("ingest").join(Digest::of(&tar).hex());
    let mut bytes = tar[..500_000].to_vec();
    bytes[400_000..].fill(0);
    fs::write(partial, bytes).unwrap();
    let fake = Fake::of(&layout);
    assert!(pull(&store, &fake.name("app:1")).is_ok());
}

#[test]
fn pulls_of_one_image_at_a_time_do_the_work_once() {
    let (_scratch, store) = store();
    let (one, two) = (gzip(&large(6)), large(7));
    let mut layout = Layout::default();
    let parts = [(LAYER, one.clone()), (LAYER, two.clone())];
    let image = layout.add(&config("amd64", &[&large(6), &two]), &parts);
    layout.name(image, "app:1");
    let fake = Fake::of(&layout);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&store, &fake.name("app:1")).unwrap());
        }
    });
    assert_eq!(fake.paths(&blob_path(&one)).len(), 1);
    assert_eq!(fake.paths(&blob_path(&two)).len(), 1);
}

#[test]
fn three_layers_come_and_become_disks_side_by_side() {
    let (_scratch, store) = store();
    let tars = [large(11), large(12), large(13)];
    let layout = Layout::image("app:1", &[&tars[0], &tars[1], &tars[2]]);
    let paths = tars.each_ref().map(|tar| blob_path(tar));
    let waiting = AtomicUsize::new(0);
    let fake = Fake::start(move |asked| {
        if paths.iter().any(|path| asked.path.contains(path)) {
            waiting.fetch_add(1, Ordering::SeqCst);
            // Nobody gets a byte before all three are asked for; one after the other would not.
            let end = Instant::now() + Duration::from_secs(20);
            while waiting.load(Ordering::SeqCst) < 3 {
                if Instant::now() > end {
                    return Answer::of(404, b"");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        from_layout(&layout, asked)
    });
    let pulled = pull(&store, &fake.name("app:1")).unwrap();
    assert_eq!(pulled.image.layers.len(), 3);
}

#[test]
fn a_cancelled_pull_gives_back_what_it_has_begun() {
    let (_scratch, store) = store();
    let (one, two) = (large(14), large(15));
    let layout = Layout::image("app:1", &[&one, &two]);
    let (path, files) = (blob_path(&two), layout.clone());
    let fake = Fake::start(move |asked| {
        let mut answer = from_layout(&files, asked);
        if asked.path.contains(&path) {
            answer.cut = Some(400_000);
        }
        answer
    });
    let (registry, options) = (Registry::default(), PullOptions::default());
    let name = fake.name("app:1");
    let error = store.pull(&name, &registry, &options, &mut |step| {
        if let PullProgress::LayerBroke { .. } = step {
            options.cancel.cancel();
        }
    });
    let error = error.expect_err("it was cancelled");
    assert!(matches!(error, LoadError::Cancelled), "{error}");
    // What has come stays, and nothing that was made of it in part.
    let begun = |(name, size): &(String, u64)| {
        let is_layer = name.starts_with("ingest/") || name.starts_with("blobs/");
        is_layer.then_some(*size)
    };
    let has: u64 = kept(&store).iter().filter_map(begun).sum();
    assert!(has >= 400_000, "{:?}", kept(&store));
    assert!(store.list().unwrap().is_empty());
    let odd = |(name, _): &(String, u64)| name.contains(".work") || name.starts_with("tmp/");
    assert!(!kept(&store).iter().any(odd), "{:?}", kept(&store));
    let again = Fake::of(&layout);
    let pulled = pull(&store, &again.name("app:1")).unwrap();
    assert_eq!(pulled.fetched, (one.len() + two.len()) as u64 - has);
}

#[test]
fn tokens_are_had_with_a_password_and_renewed_when_they_run_out() {
    let layout = Layout::image("app:1", &[&layer("one"), &layer("two")]);
    let uses = AtomicUsize::new(0);
    let (given, realm) = (AtomicUsize::new(0), std::sync::OnceLock::<String>::new());
    let realm = std::sync::Arc::new(realm);
    let known = std::sync::Arc::clone(&realm);
    let fake = Fake::start(move |asked| {
        if asked.path.starts_with("/token") {
            let right = asked.authorization.as_deref() == Some("Basic dTpw");
            let number = given.fetch_add(1, Ordering::Relaxed);
            let token = format!("{{\"token\":\"t{number}\"}}");
            return Answer::of(if right { 200 } else { 401 }, token.as_bytes());
        }
        // Each token is good for two requests.
        let number = uses.load(Ordering::Relaxed) / 2;
        if asked.authorization == Some(format!("Bearer t{number}")) {
            uses.fetch_add(1, Ordering::Relaxed);
            return from_layout(&layout, asked);
        }
        let realm = known.get().unwrap();
        let wants = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:app:pull\"");
        Answer::of(401, b"").header("WWW-Authenticate", wants)
    });
    realm.set(format!("http://{}/token", fake.address)).unwrap();
    let (_scratch, store) = store();
    let ring = |password: &str| {
        let mut ring = Keyring::default();
        let auths = json!({"auths": {&fake.address: {"username": "u", "password": password}}});
        ring.add_docker_config_json("s", auths.to_string().as_bytes())
            .unwrap();
        ring
    };
    assert!(pull_as(&store, &fake.name("app:1"), ring("p")).is_ok());
    let tokens = fake.paths("/token");
    assert!(tokens.len() >= 2 && tokens[0].contains("scope=repository%3Aapp%3Apull&service=s"));
    let (_scratch, store) = self::store();
    let error = pull_as(&store, &fake.name("app:1"), ring("wrong")).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}

#[test]
fn credentials_stay_with_their_registry() {
    let layout = Layout::image("app:1", &[&layer("one")]);
    let files = layout.clone();
    let elsewhere = Fake::start(move |asked| {
        let status = if asked.authorization.is_some() {
            400
        } else {
            200
        };
        Answer {
            status,
            ..from_layout(&files, asked)
        }
    });
    let address = elsewhere.address.clone();
    let fake = Fake::start(move |asked| {
        if asked.authorization.is_none() {
            return Answer::of(401, b"").header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        if asked.path.contains("/blobs/") {
            let to = format!("http://{address}{}", asked.path);
            return Answer::of(307, b"").header("Location", to);
        }
        from_layout(&layout, asked)
    });
    let mut ring = Keyring::default();
    let auths = json!({&fake.address: {"username": "u", "password": "p"}});
    ring.add_dockercfg("s", auths.to_string().as_bytes())
        .unwrap();
    let (_scratch, store) = store();
    assert!(pull_as(&store, &fake.name("app:1"), ring).is_ok());
    assert!(!elsewhere.paths("/blobs/").is_empty());
}

#[test]
fn a_disk_that_is_gone_is_made_again_and_a_damaged_layer_fetched_again() {
    let (_scratch, store) = store();
    let tar = layer("one");
    let packed = gzip(&tar);
    let mut layout = Layout::default();
    let gzipped = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = layout.add(&config("amd64", &[&tar]), &[(gzipped, packed.clone())]);
    layout.name(manifest, "app:1");
    let fake = Fake::of(&layout);
    let name = fake.name("app:1");
    let image = pull(&store, &name).unwrap().image;
    let disk = &image.layers[0].path;
    fs::remove_file(disk).unwrap();
    assert!(store.resolve(&name).is_err());
    assert_eq!(pull(&store, &name).unwrap().fetched, 0);
    assert!(disk.exists());
    // Both: the blob has its length, and is not what it was.
    let blob = store
        .root()
        .join(format!("blobs/sha256/{}", Digest::of(&packed).hex()));
    let mut spoilt = packed.clone();
    spoilt[20] ^= 1;
    fs::write(&blob, spoilt).unwrap();
    fs::remove_file(disk).unwrap();
    assert_eq!(pull(&store, &name).unwrap().fetched, packed.len() as u64);
    assert_eq!(fs::read(&blob).unwrap(), packed);
}

#[test]
fn what_a_dead_pull_has_left_goes_with_everything_that_is_unused() {
    let (_scratch, store) = store();
    let (one, tar) = (layer("one"), large(9));
    let layout = Layout::image("app:1", &[&one, &tar]);
    let path = blob_path(&tar);
    let fake = Fake::start(move |asked| {
        let mut answer = from_layout(&layout, asked);
        if asked.path.contains(&path) {
            answer.cut = (asked.from == 0).then_some(250_000);
            answer.status = if asked.from == 0 { 200 } else { 503 };
        }
        answer
    });
    let options = PullOptions::default();
    let ended = store.pull(
        &fake.name("app:1"),
        &Registry::default(),
        &options,
        &mut |step| {
            if matches!(step, PullProgress::LayerBroke { .. }) {
                options.cancel.cancel();
            }
        },
    );
    assert!(matches!(ended, Err(LoadError::Cancelled)));
    assert!(store.usage().unwrap().unfinished > 250_000);
    let nobody = std::collections::BTreeMap::new();
    let prune = |which| store.removal().unwrap().prune(which, &nobody).unwrap();
    prune(beluga_image::Unused::Untagged);
    assert!(store.usage().unwrap().unfinished > 250_000);
    let pruned = prune(beluga_image::Unused::All);
    assert!(pruned.freed > 250_000, "{}", pruned.freed);
    assert_eq!(kept(&store), []);
}
