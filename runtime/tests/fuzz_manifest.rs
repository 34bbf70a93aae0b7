//! Mangled manifests end in a list of errors or in a pod, never in a panic or
//! a hang. The mutations are the same in every run.

use beluga_runtime::spec;
use std::time::{Duration, Instant};

/// How long without FUZZ_SECONDS; it takes about a second, and on a slow
/// machine it is cut short.
const BUDGET: Duration = Duration::from_secs(4);

/// Rounds without FUZZ_SECONDS.
const ROUNDS: usize = 20_000;

/// As `run --now` reads it, for more of it is read then.
const NOW: spec::Reading<'_> = spec::Reading {
    namespace: None,
    now: Some([0; 5]),
    made: Some([0; 5]),
};

const SEEDS: [&str; 5] = [
    include_str!("golden/web.yaml"),
    include_str!("golden/least.yaml"),
    "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\": \"Pod\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"a\"}, \"spec\": {\"containers\": [{\"name\": \"a\", \"image\": \"b\"}]}}]}",
    "a: &a [1, 2]\nb: *a\nc: {<<: {d: !!str 1}}\n--- |\n text\n...\n---\n? x\n: 'y'\n",
    include_str!("jobs.yaml"),
];

/// Pieces that mean something to YAML or to Kubernetes.
const PIECES: [&str; 24] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "---\n",
    "!!int ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "#",
    "\t",
    "\0",
    "ä",
    "99999999999999999999",
    "1e99999",
    "~",
];

/// xorshift64*: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % sides.max(1)
    }
}

fn mutate(seed: &str, dice: &mut Dice) -> String {
    let mut chars: Vec<char> = seed.chars().collect();
    for _ in 0..=dice.roll(6) {
        let at = dice.roll(chars.len() + 1);
        let end = (at + dice.roll(40)).min(chars.len());
        match dice.roll(5) {
            0 => drop(chars.drain(at..end)),
            1 => {
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = dice.roll(chars.len() + 1);
                drop(chars.splice(to..to, copy));
            }
            2 if at < chars.len() => {
                chars[at] = char::from(u8::try_from(dice.roll(128)).expect("7 bits"));
            }
            _ => drop(chars.splice(at..at, PIECES[dice.roll(PIECES.len())].chars())),
        }
    }
    chars.into_iter().collect()
}

/// Says to the gate how much was tried: libtest keeps what a test prints.
fn tell(executions: u64) {
    use std::io::Write as _;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let line = format!("FUZZED {name}: {executions} executions\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[test]
fn fuzz_no_manifest_breaks_the_reader() {
    let asked = std::env::var("FUZZ_SECONDS").ok();
    let asked = asked.and_then(|text| text.parse().ok());
    let (budget, rounds) = asked.map_or((BUDGET, ROUNDS), |seconds| {
        (Duration::from_secs(seconds), usize::MAX)
    });
    let begun = Instant::now();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for round in 0..rounds {
        if begun.elapsed() > budget {
            break;
        }
        let text = mutate(SEEDS[round % SEEDS.len()], &mut dice);
        match spec::read_as("fuzz", &text, NOW) {
            Ok(read) => {
                assert!(!(read.documents().is_empty() && read.objects.is_empty()));
                taken += 1;
            }
            Err(error) => {
                assert!(!error.issues.is_empty());
                refused += 1;
            }
        }
    }
    tell(taken + refused);
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

#[test]
fn nesting_and_aliases_are_bounded() {
    let deep = format!("a: {}", "[".repeat(100_000));
    assert!(spec::parse("fuzz", &deep).is_err());
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        laughs += &format!("a{level}: &a{level} [{before}]\n");
    }
    let error = spec::parse("fuzz", &laughs).unwrap_err().to_string();
    assert!(
        error.contains("too large once its aliases are expanded"),
        "{error}"
    );
    // As much as a document may be, and then another one, and another one.
    let much = format!(
        "a: &a {:?}\nb: [{}]\n---\n",
        "x".repeat(10_000),
        "*a, ".repeat(1000)
    );
    let error = |text: &str| spec::parse("fuzz", text).unwrap_err().to_string();
    assert!(!error(&much).contains("too large"));
    let told = error(&much.repeat(9));
    assert!(
        told.contains("the manifest is too large once its aliases are expanded"),
        "{told}"
    );
    let long = format!("# {}", "x".repeat(spec::MAX_TEXT));
    assert!(spec::parse("fuzz", &long).is_err());
}
