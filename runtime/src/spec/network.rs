//! Which networks a pod is in. Kubernetes has one for all pods and no field for
//! it: an annotation says otherwise, with names separated by commas.

use super::check::Check;
use super::types::PodSpec;
use super::yaml::join;

/// The annotation.
pub const NETWORK: &str = "beluga/network";

/// Loopback only.
pub const NO_NETWORK: &str = "none";

/// The network of all pods of the root.
pub const DEFAULT_NETWORK: &str = "default";

/// A network of CNI: the first of the configured ones, or with `:NAME` that one.
const CNI: &str = "cni";

/// Most cards that a pod has.
const MAX_CARDS: usize = 4;

/// Most characters of a name: those of a DNS label.
pub const MAX_NETWORK_NAME: usize = 63;

/// Whether a network may be called that: a DNS label that means nothing else.
#[must_use]
pub fn is_network_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (first, last) = (name.bytes().next(), name.bytes().last());
    name.len() <= MAX_NETWORK_NAME
        && first.is_some_and(is_plain)
        && last.is_some_and(is_plain)
        && name.bytes().all(|byte| is_plain(byte) || byte == b'-')
        && ![DEFAULT_NETWORK, NO_NETWORK, CNI, "host"].contains(&name)
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    /// None at all.
    No,
    /// One of our own.
    Native(&'a str),
    /// One of CNI.
    Cni(&'a str),
}

fn named(word: &str) -> Named<'_> {
    match (word, word.split_once(':')) {
        (NO_NETWORK, _) => Named::No,
        (CNI, _) => Named::Cni(""),
        (_, Some((CNI, name))) => Named::Cni(name),
        (name, _) => Named::Native(name),
    }
}

impl PodSpec {
    fn networks(&self) -> impl Iterator<Item = Named<'_>> {
        let said = self.annotations.get(NETWORK);
        let said = said.map_or(DEFAULT_NETWORK, String::as_str);
        said.split(',').map(|word| named(word.trim()))
    }

    /// The network of our own that it is in.
    #[must_use]
    pub fn native_network(&self) -> Option<&str> {
        self.networks().find_map(|one| match one {
            Named::Native(name) => Some(name),
            _ => None,
        })
    }

    /// Networks of CNI that it is in; an empty name is the first one's.
    #[must_use]
    pub fn cni_networks(&self) -> Vec<&str> {
        let found = self.networks().filter_map(|one| match one {
            Named::Cni(name) => Some(name),
            _ => None,
        });
        found.collect()
    }
}

/// Refuses networks that there are not, and ports of a pod that has none.
pub(super) fn check(spec: &PodSpec, check: &mut Check<'_>) {
    let path = join("metadata.annotations", NETWORK);
    let all: Vec<Named<'_>> = spec.networks().collect();
    let natives = all.iter().filter(|one| matches!(one, Named::Native(_)));
    let (natives, has_none) = (natives.count(), all.contains(&Named::No));
    for (at, one) in all.iter().enumerate() {
        match one {
            Named::Native(name) if !is_network_name(name) && *name != DEFAULT_NETWORK => {
                let shown: String = name.chars().take(60).collect();
                let message = format!(
                    "{shown:?} is not the name of a network, nor {NO_NETWORK}, {CNI} or {CNI}:NAME"
                );
                check.wrong(&path, message);
            }
            _ if all[..at].contains(one) => check.wrong(&path, "names a network twice"),
            _ => {}
        }
    }
    if has_none && all.len() > 1 {
        check.wrong(&path, "none is not one of several networks");
    } else if has_none && !spec.published().is_empty() {
        check.wrong(
            &path,
            "a pod without a network cannot publish ports (port-forward reaches it all the same)",
        );
    }
    if natives > 1 {
        check.wrong(&path, "a pod is in one network at most that is not CNI's");
    }
    if all.len() > MAX_CARDS {
        let message = format!("a pod is in {MAX_CARDS} networks at most");
        check.wrong(&path, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(networks: &str, more: &str) -> Result<PodSpec, String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{{NETWORK}: '{networks}'}}}}\nspec: {{containers: [{{name: a, image: b{more}}}]}}\n"
        );
        let read = crate::spec::parse("p.yaml", &text);
        let mut read = read.map_err(|error| error.issues[0].message.clone())?;
        Ok(read.remove(0).spec)
    }

    #[test]
    fn networks_are_told_apart() {
        for (networks, native, cni) in [
            ("none", None, vec![]),
            ("default", Some("default"), vec![]),
            ("cni", None, vec![""]),
            ("cni:a, cni:b", None, vec!["a", "b"]),
            ("cni:a,default", Some("default"), vec!["a"]),
        ] {
            let spec = read(networks, "").unwrap();
            assert_eq!(
                (spec.native_network(), spec.cni_networks()),
                (native, cni),
                "{networks}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let port = ", ports: [{containerPort: 80, hostPort: 80}]";
        for (networks, more, why) in [
            ("host", "", "is not the name of a network"),
            ("a/b", "", "is not the name of a network"),
            ("front,back", "", "in one network at most"),
            ("none,default", "", "none is not one of several"),
            ("cni:a,cni:a", "", "names a network twice"),
            ("cni:a,cni:b,cni:c,cni:d,cni:e", "", "4 networks at most"),
            ("none", port, "cannot publish ports"),
        ] {
            let error = read(networks, more).unwrap_err();
            assert!(error.contains(why), "{networks}: {error}");
        }
    }
}
