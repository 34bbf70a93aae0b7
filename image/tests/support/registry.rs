//! A registry on this machine that does right or wrong as it is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use beluga_image::{
    Digest, Keyring, LoadError, PullOptions, PulledImage, Reference, Registry, Store,
};

use super::layout::Layout;
use super::store::{kept, store, told};

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The first byte that is wanted.
    pub from: usize,
}

/// What it is given.
#[derive(Default, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn of(status: u16, body: &[u8]) -> Self {
        Answer {
            status,
            body: body.to_vec(),
            ..Answer::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A server and what it was asked.
pub struct Fake {
    pub address: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Fake { address, asked }
    }

    /// One that has the files of a layout, its first image as `app:1`.
    pub fn of(layout: &Layout) -> Self {
        let layout = layout.clone();
        Fake::start(move |asked| from_layout(&layout, asked))
    }

    pub fn name(&self, name: &str) -> Reference {
        format!("{}/{name}", self.address).parse().unwrap()
    }

    /// The paths that were asked for and hold this word.
    pub fn paths(&self, word: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let paths = asked.iter().map(|asked| asked.path.clone());
        paths.filter(|path| path.contains(word)).collect()
    }
}

/// What a registry of good manners gives.
pub fn from_layout(layout: &Layout, asked: &Asked) -> Answer {
    let (kind, which) = match asked.path.split_once("/manifests/") {
        Some((_, which)) => ("manifest", which),
        None => match asked.path.split_once("/blobs/") {
            Some((_, which)) => ("blob", which),
            None => return Answer::of(404, b""),
        },
    };
    let which = which.split('?').next().unwrap_or_default();
    let wanted = match which.strip_prefix("sha256:") {
        Some(hex) => hex.to_owned(),
        None if kind == "manifest" && which == "1" => {
            let digest = layout.manifests[0]["digest"].as_str().unwrap();
            digest.replace("sha256:", "")
        }
        None => String::new(),
    };
    let file = format!("blobs/sha256/{wanted}");
    match layout.files.iter().find(|(name, _)| *name == file) {
        None => Answer::of(
            404,
            br#"{"errors":[{"code":"UNKNOWN","message":"not here"}]}"#,
        ),
        Some((_, bytes)) if asked.from > 0 && asked.from < bytes.len() => {
            let range = format!("bytes {}-{}/{}", asked.from, bytes.len() - 1, bytes.len());
            Answer::of(206, &bytes[asked.from..]).header("Content-Range", range)
        }
        Some((_, bytes)) => Answer::of(200, bytes),
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Asked) -> Answer, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ').map(str::to_owned);
        let mut asked = Asked {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            authorization: None,
            from: 0,
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or_default();
            let value = value.trim();
            match name.to_lowercase().as_str() {
                "authorization" => asked.authorization = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap(),
                "range" => {
                    let from = value.trim_start_matches("bytes=").trim_end_matches('-');
                    asked.from = from.parse().unwrap();
                }
                _ => {}
            }
        }
        let mut form = vec![0; length];
        if std::io::Read::read_exact(&mut reader, &mut form).is_err() {
            return;
        }
        log.lock().unwrap().push(asked.clone());
        let Answer {
            status,
            headers,
            body,
            cut,
        } = answer(&asked);
        let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let end = cut.unwrap_or(body.len()).min(body.len());
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body[..end]));
        if sent.is_err() || cut.is_some() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

pub fn pull(store: &Store, name: &Reference) -> Result<PulledImage, LoadError> {
    pull_as(store, name, Keyring::default())
}

pub fn pull_as(
    store: &Store,
    name: &Reference,
    keyring: Keyring,
) -> Result<PulledImage, LoadError> {
    let registry = Registry {
        certs_dirs: Vec::new(),
        keyring,
    };
    store.pull(name, &registry, &PullOptions::default(), &mut |_| {})
}

/// `blobs/sha256:…` of some bytes.
pub fn blob_path(bytes: &[u8]) -> String {
    format!("blobs/{}", Digest::of(bytes))
}

/// Pulls what must not come in, and leaves nothing.
pub fn refused(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> String {
    let (_scratch, store) = store();
    let fake = Fake::start(answer);
    let error = pull(&store, &fake.name("app:1")).expect_err("a bad image came in");
    assert_eq!(kept(&store), [], "{error}");
    told(&error)
}

/// Bytes in the place of a file of a layout.
pub fn with(
    layout: &Layout,
    path: String,
    body: Vec<u8>,
) -> impl Fn(&Asked) -> Answer + Send + Sync + use<> {
    let layout = layout.clone();
    move |asked| {
        if asked.path.contains(&path) {
            Answer::of(200, &body)
        } else {
            from_layout(&layout, asked)
        }
    }
}
