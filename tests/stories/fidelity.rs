//! What an image says of its files is what a container sees, and what its pod leaves of it.

use beluga_tests::{Beluga, Ran, say, skip};
use std::collections::BTreeMap;
use std::path::PathBuf;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: listings}
spec:
  restartPolicy: Never
  containers:
  - name: umoci
    image: strange:1
    imagePullPolicy: Never
    command: [/listing, /]
    # Who else would be shown the attributes of `trusted`?
    securityContext: {privileged: true}
  - name: built
    image: built:1
    imagePullPolicy: Never
    command: [/listing, /]
    securityContext: {privileged: true}
";

/// What the files are, by path.
type Listing = BTreeMap<String, String>;

fn listing(text: &str) -> Listing {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

/// Loads the images that `tests/images/strange/make.sh` has made, where somebody could; what they
/// were made of, listed.
fn images(beluga: &Beluga) -> Option<[Listing; 2]> {
    let made = PathBuf::from(std::env::var_os("WORK")?).join("strange");
    let lists = ["strange", "built"].map(|name| {
        let text = std::fs::read_to_string(made.join(format!("{name}.list"))).ok()?;
        let archive = made.join(format!("{name}.tar")).display().to_string();
        beluga.run(["load", "-i", &archive]).ok();
        Some(listing(&text))
    });
    let [Some(umoci), Some(built)] = lists else {
        return None;
    };
    Some([umoci, built])
}

/// Asserts that a container has seen what there is, but for what is mounted in it.
fn same(seen: &Ran, there: &Listing) -> usize {
    let lines = seen.out.lines();
    let mounted: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("mount "))
        .collect();
    let is_elsewhere = |name: &str| {
        let mut points = mounted.iter();
        points.any(|point| name == *point || name.starts_with(&format!("{point}/")))
    };
    let (mut seen, mut there) = (listing(&seen.out), there.clone());
    seen.remove("mount");
    there.retain(|name, _| !is_elsewhere(name));
    // A container's root is its own directory, made when it was.
    let owner = |listing: &mut Listing| {
        let root = listing.remove("/").unwrap_or_default();
        root.split(" mtime=").next().map(str::to_owned)
    };
    assert_eq!(owner(&mut seen), owner(&mut there));
    for (name, what) in &there {
        assert_eq!(seen.get(name), Some(what), "{name}");
    }
    let mut more = seen.keys().filter(|name| !there.contains_key(*name));
    assert_eq!(more.next(), None);
    there.len()
}

#[test]
fn what_umoci_unpacks_is_what_a_container_sees() {
    let beluga = Beluga::fresh();
    let Some([umoci, built]) = images(&beluga) else {
        let story = "fidelity::what_umoci_unpacks_is_what_a_container_sees";
        return skip(story, "the images take root to be made");
    };
    let pod = beluga.pod(POD);
    pod.eventually("ended", |status| status["phase"] == "Succeeded");
    let logs = |name: &str| beluga.run(["logs", "listings", "-c", name]).ok();
    let count = same(&logs("umoci"), &umoci);
    same(&logs("built"), &built);
    odd_ones_are_among(count, &umoci);
    an_image_of_a_pod_that_has_ended_stays_until_somebody_insists(&beluga);
    pod.delete();
    beluga.is_clean();
}

fn odd_ones_are_among(count: usize, files: &Listing) {
    let odd = files.keys().filter(|name| name.starts_with("/srv")).count();
    say(&format!("fidelity: {count} files alike, {odd} of them odd"));
    assert!(odd > 20, "{:?}", files.keys());
}

/// The pod may be run again.
fn an_image_of_a_pod_that_has_ended_stays_until_somebody_insists(beluga: &Beluga) {
    let used = beluga.types("rmi strange:1");
    used.fails(1, "is in use by listings");
    let removed = beluga.types("rmi -f strange:1").ok();
    removed.says("Deleted: sha256:");
    let again = beluga.types("start listings");
    again.fails(1, "strange:1");
}
