//! Real servers on this machine's loopback, for tests of what goes out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a server waits for a client that says nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that handles one connection after the other until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(handle: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                handle(stream);
            }
        });
        Self { address, over, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an HTTP client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET /path HTTP/1.1`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    fn read(stream: impl Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let mut request = Self { line: line.trim_end().to_string(), headers, body: String::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        Some(request)
    }
}

/// An HTTP server, and what it was asked.
pub(crate) struct HttpServer {
    server: Server,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl HttpServer {
    /// Answers with these bytes, status line and headers included.
    pub(crate) fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::over(|stream| stream, answer)
    }

    /// The same, over what `accept` makes of each connection.
    pub(crate) fn over<S: Read + Write>(
        accept: impl Fn(TcpStream) -> S + Send + 'static,
        answer: impl Fn(&Request) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let server = Server::start(move |stream| {
            let mut stream = accept(stream);
            let Some(request) = Request::read(&mut stream) else { return };
            let bytes = answer(&request);
            noted.lock().unwrap().push(request);
            // The client may have had enough.
            let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
        });
        Self { server, asked }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

/// An answer with a status, headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut text =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// What a mail server took in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: String,
}

impl Mail {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.split("\r\n")
            .find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")))
    }
}

/// An SMTP server. Recipients say what becomes of them: `unknown@…` 550, `later@…` 451. A message
/// whose subject says `drop` is taken in and the connection cut before the answer.
pub(crate) struct MailServer {
    server: Server,
    book: Book,
}

/// What a mail server notes.
#[derive(Clone, Default)]
pub(crate) struct Book {
    mails: Arc<Mutex<Vec<Mail>>>,
    /// The log-ins, as they came: base64 of user and password.
    logins: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    /// With `password`, `AUTH PLAIN` is offered and only that one is taken.
    pub(crate) fn start(password: Option<&'static str>) -> Self {
        Self::over(move |stream, book| {
            greet(&mut &stream)?;
            converse(stream, Offers { password, tls: false }, book).map(|_| ())
        })
    }

    /// Talks in this way to each client.
    pub(crate) fn over(
        talk: impl Fn(TcpStream, &Book) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let book = Book::default();
        let own = book.clone();
        // A client that goes away ends the conversation.
        let server = Server::start(move |stream| drop(talk(stream, &own)));
        Self { server, book }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.book.mails.lock().unwrap().clone()
    }

    pub(crate) fn logins(&self) -> Vec<String> {
        self.book.logins.lock().unwrap().clone()
    }
}

/// What a mail server offers.
#[derive(Clone, Copy)]
pub(crate) struct Offers {
    /// The log-in it takes.
    pub(crate) password: Option<&'static str>,
    pub(crate) tls: bool,
}

/// The first line of a conversation.
pub(crate) fn greet(stream: &mut impl Write) -> std::io::Result<()> {
    stream.write_all(b"220 test\r\n")
}

fn say(reader: &mut BufReader<impl Read + Write>, text: &str) -> std::io::Result<()> {
    let stream = reader.get_mut();
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.flush()
}

/// Talks to a client until one of both ends it. True when the client asks for TLS, which is offered.
pub(crate) fn converse(
    stream: impl Read + Write,
    Offers { password, tls }: Offers,
    book: &Book,
) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut mail = Mail::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let path = path.map(|(path, _)| path.to_string()).unwrap_or_default();
        match verb.as_str() {
            "EHLO" if tls => say(&mut reader, "250-test\r\n250 STARTTLS")?,
            "STARTTLS" if tls => {
                say(&mut reader, "220 go on")?;
                return Ok(true);
            }
            "EHLO" if password.is_some() => say(&mut reader, "250-test\r\n250 AUTH PLAIN")?,
            "EHLO" | "HELO" => say(&mut reader, "250 test")?,
            "AUTH" => {
                let login = line.rsplit(' ').next().unwrap_or_default().to_string();
                book.logins.lock().unwrap().push(login.clone());
                // Repeats what it got, as a careless server does.
                match password {
                    Some(good) if login.contains(good) => say(&mut reader, "235 welcome")?,
                    _ => say(&mut reader, &format!("535 not {login}"))?,
                }
            }
            "MAIL" => {
                mail = Mail { from: path, ..Mail::default() };
                say(&mut reader, "250 ok")?;
            }
            "RCPT" if path.starts_with("unknown@") => say(&mut reader, "550 no such user here")?,
            "RCPT" if path.starts_with("later@") => say(&mut reader, "451 try again later")?,
            "RCPT" => {
                mail.to.push(path);
                say(&mut reader, "250 ok")?;
            }
            "DATA" => {
                say(&mut reader, "354 go on")?;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 {
                        return Ok(false);
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                let is_dropped = mail.header("Subject") == Some("drop");
                book.mails.lock().unwrap().push(mail.clone());
                if is_dropped {
                    return Ok(false);
                }
                say(&mut reader, "250 queued as 42")?;
            }
            "QUIT" => {
                say(&mut reader, "221 bye")?;
                return Ok(false);
            }
            _ => say(&mut reader, "250 ok")?,
        }
    }
}
