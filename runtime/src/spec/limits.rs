//! How fast a pod's card and disks may be. Kubernetes has annotations for the
//! card's bandwidth; the rest is in some of our own.
//!
//! ```text
//! kubernetes.io/ingress-bandwidth, egress-bandwidth   bits a second, to the pod and from it
//! beluga/ingress-burst, egress-burst                  bytes at once after a rest
//! beluga/ingress-packets, egress-packets              packets a second
//! beluga/disk-bandwidth, disk-burst                   bytes a second, bytes at once, of each disk
//! beluga/disk-requests                                requests a second of each
//! ```

use super::check::Check;
use super::quantity::Quantity;
use super::types::PodSpec;
use super::yaml::join;
use beluga_proto::vm::{NetLimits, Rate};

/// Annotations of a card's direction, and those of the disks: the rate, whether
/// it is in bits, the burst, the packets or requests.
type Names = (&'static str, bool, &'static str, &'static str);

const TO_POD: Names = (
    "kubernetes.io/ingress-bandwidth",
    true,
    "beluga/ingress-burst",
    "beluga/ingress-packets",
);
const FROM_POD: Names = (
    "kubernetes.io/egress-bandwidth",
    true,
    "beluga/egress-burst",
    "beluga/egress-packets",
);
const DISK: Names = (
    "beluga/disk-bandwidth",
    false,
    "beluga/disk-burst",
    "beluga/disk-requests",
);

/// What Kubernetes takes for a bandwidth, in bits a second.
const BANDWIDTHS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// Bits of a byte.
const BITS: u64 = 8;

impl PodSpec {
    /// How much its card may carry; `None` where nothing is said.
    #[must_use]
    pub fn net_limits(&self) -> Option<NetLimits> {
        let limits = NetLimits {
            from_guest: self.rate(&FROM_POD),
            to_guest: self.rate(&TO_POD),
        };
        (limits != NetLimits::default()).then_some(limits)
    }

    /// How much each of its disks may carry.
    #[must_use]
    pub fn disk_rate(&self) -> Option<Rate> {
        self.rate(&DISK)
    }

    fn rate(&self, (rate, is_bits, burst, operations): &Names) -> Option<Rate> {
        let value = |name: &str| {
            let text = self.annotations.get(name)?;
            Some(Quantity::parse(text).ok()?.units())
        };
        let bytes = value(rate).map(|rate| if *is_bits { rate / BITS } else { rate });
        let operations = value(operations);
        let is_limited = bytes.is_some() || operations.is_some();
        is_limited.then(|| Rate {
            bytes,
            burst_bytes: value(burst),
            operations,
            burst_operations: None,
        })
    }
}

/// Refuses what is no rate.
pub(super) fn check(spec: &PodSpec, check: &mut Check<'_>) {
    for (rate, is_bits, burst, operations) in [TO_POD, FROM_POD, DISK] {
        for name in [rate, burst, operations] {
            let Some(text) = spec.annotations.get(name) else {
                continue;
            };
            let path = join("metadata.annotations", name);
            let Some(quantity) = check.quantity(&path, text) else {
                continue;
            };
            let units = quantity.units();
            if quantity.is_negative() || units == 0 {
                check.wrong(&path, format!("{text:?} is not more than 0"));
            } else if name == rate && is_bits && !BANDWIDTHS.contains(&units) {
                // The sentences of the kubelet.
                let which = if units < *BANDWIDTHS.start() {
                    "small (< 1kbit)"
                } else {
                    "large (> 1Pbit)"
                };
                check.wrong(&path, format!("resource is unreasonably {which}"));
            }
        }
        if spec.annotations.contains_key(burst) && !spec.annotations.contains_key(rate) {
            let path = join("metadata.annotations", burst);
            check.wrong(&path, format!("says nothing without {rate}"));
        }
    }
}

#[cfg(test)]
mod tests {
    fn limits(annotations: &str) -> Result<super::PodSpec, String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{{annotations}}}}}\nspec: {{containers: [{{name: a, image: b}}]}}\n"
        );
        let read = crate::spec::parse("p.yaml", &text);
        let mut read = read.map_err(|error| error.issues[0].message.clone())?;
        Ok(read.remove(0).spec)
    }

    #[test]
    fn bandwidths_are_bits_and_the_rest_is_bytes() {
        let spec = limits(
            "kubernetes.io/ingress-bandwidth: 8M, beluga/ingress-burst: 64Ki, beluga/egress-packets: '100', beluga/disk-bandwidth: 1Mi",
        )
        .unwrap();
        let limits = spec.net_limits().unwrap();
        let inward = limits.to_guest.unwrap();
        assert_eq!(
            (inward.bytes, inward.burst_bytes),
            (Some(1_000_000), Some(65536))
        );
        assert_eq!(limits.from_guest.unwrap().operations, Some(100));
        assert_eq!(spec.disk_rate().unwrap().bytes, Some(1 << 20));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for (annotations, message) in [
            (
                "kubernetes.io/ingress-bandwidth: '10'",
                "unreasonably small (< 1kbit)",
            ),
            (
                "kubernetes.io/egress-bandwidth: 2E",
                "unreasonably large (> 1Pbit)",
            ),
            ("beluga/egress-packets: '0'", "is not more than 0"),
            (
                "beluga/ingress-burst: 1Mi",
                "says nothing without kubernetes.io/ingress-bandwidth",
            ),
        ] {
            let error = limits(annotations).unwrap_err();
            assert!(error.contains(message), "{annotations}: {error}");
        }
        assert!(limits("other: x").unwrap().net_limits().is_none());
    }
}
