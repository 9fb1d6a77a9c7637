//! A TCP proxy between the daemon and whom it talks to, whose line is spoiled at run time: the faults of a network that the
//! other side knows nothing of.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// What the line does to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Good,
    /// Nobody listens; what was open is reset.
    Refused,
    /// Every connection is reset, what was open too.
    Reset,
    /// Every connection is ended politely, what was open too.
    Closed,
    /// No byte passes until the line is good again, and then all of them do.
    Stalled,
    /// So many bytes a second in each direction.
    Slow(u64),
    /// Each connection is reset after so many more bytes in one direction.
    CutAfter(u64),
    /// What the daemon says arrives; the connection is reset at the first byte of the answer.
    ReplyLost,
    /// The same for the answer to a COMMIT alone: what it committed is there, and the daemon never hears of it.
    CommitLost,
}

/// Where the bytes go.
#[derive(Debug, Clone)]
enum Target {
    Tcp(String),
    Socket(PathBuf),
}

/// What the connections of a proxy share.
#[derive(Debug)]
struct Shared {
    target: Mutex<Target>,
    /// The ports that the connections come from.
    open: Mutex<BTreeSet<u16>>,
    /// How often a connection was refused its due.
    hits: AtomicU64,
}

/// A proxy; ends with the value.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    line: watch::Sender<Line>,
    shared: Arc<Shared>,
    /// Keeps the port while nobody listens on it.
    _place: TcpSocket,
    _stop: DropGuard,
}

impl Proxy {
    /// A proxy to a server of HTTP.
    pub fn to_http(base_url: &str) -> Self {
        let url = Url::parse(base_url).unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
        Self::start(Target::Tcp(target))
    }

    /// A proxy to a server of Postgres.
    pub fn to_postgres(url: &str) -> Self {
        Self::start(postgres_target(url))
    }

    fn start(target: Target) -> Self {
        let place = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addr = place.local_addr().unwrap();
        let shared = Arc::new(Shared { target: Mutex::new(target), open: Mutex::default(), hits: AtomicU64::new(0) });
        let (line, looking) = watch::channel(Line::Good);
        let stop = CancellationToken::new();
        let listener = listen(addr);
        tokio::spawn(accept(addr, listener, looking, Arc::clone(&shared), stop.clone()));
        Self { addr, line, shared, _place: place, _stop: stop.drop_guard() }
    }

    /// The URL of what is behind it, by way of the proxy.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The URL of a database behind it, by way of the proxy.
    pub fn postgres_url(&self, url: &str) -> String {
        let options: PgConnectOptions = url.parse().unwrap();
        let mut through = Url::parse(url).unwrap();
        through.set_query(None);
        through.set_path(options.get_database().unwrap_or_default());
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(self.addr.port())).unwrap();
        through.into()
    }

    /// Changes the line, for the connections that are open too.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Leads new connections to another server of Postgres.
    pub fn lead_to_postgres(&self, url: &str) {
        *self.shared.target.lock().unwrap() = postgres_target(url);
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The ports that its open connections come from.
    pub fn open(&self) -> Vec<u16> {
        self.shared.open.lock().unwrap().iter().copied().collect()
    }

    /// How often the line has done harm so far.
    pub fn hits(&self) -> u64 {
        self.shared.hits.load(Ordering::Relaxed)
    }
}

fn postgres_target(url: &str) -> Target {
    let options: PgConnectOptions = url.parse().unwrap();
    match options.get_socket() {
        Some(directory) => Target::Socket(directory.join(format!(".s.PGSQL.{}", options.get_port()))),
        None => Target::Tcp(format!("{}:{}", options.get_host(), options.get_port())),
    }
}

fn socket(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}

fn listen(addr: SocketAddr) -> TcpListener {
    socket(addr).listen(64).unwrap()
}

async fn accept(
    addr: SocketAddr,
    listener: TcpListener,
    mut line: watch::Receiver<Line>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let mut listener = Some(listener);
    loop {
        let is_refused = *line.borrow_and_update() == Line::Refused;
        if is_refused && listener.take().is_some() {
            shared.hits.fetch_add(1, Ordering::Relaxed);
        }
        if !is_refused && listener.is_none() {
            listener = Some(listen(addr));
        }
        let coming = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = line.changed() => if changed.is_err() { return },
            client = coming => {
                let Ok((client, from)) = client else { continue };
                let (line, shared) = (line.clone(), Arc::clone(&shared));
                tokio::spawn(stop.clone().run_until_cancelled_owned(carry(client, from.port(), line, shared)));
            }
        }
    }
}

/// A connection, for as long as the value lives.
struct Open {
    port: u16,
    shared: Arc<Shared>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.open.lock().unwrap().remove(&self.port);
    }
}

async fn carry(mut client: TcpStream, port: u16, line: watch::Receiver<Line>, shared: Arc<Shared>) {
    shared.open.lock().unwrap().insert(port);
    let _open = Open { port, shared: Arc::clone(&shared) };
    let target = shared.target.lock().unwrap().clone();
    let carried = match target {
        Target::Tcp(addr) => match TcpStream::connect(addr).await {
            Ok(server) => both_ways(&mut client, server, line, &shared).await,
            Err(error) => Err(error),
        },
        Target::Socket(path) => match UnixStream::connect(path).await {
            Ok(server) => both_ways(&mut client, server, line, &shared).await,
            Err(error) => Err(error),
        },
    };
    if carried.is_err() {
        // Without lingering, closing the socket sends a reset instead of a polite end.
        let _ = client.set_zero_linger();
    }
}

async fn both_ways<S>(client: &mut TcpStream, server: S, line: watch::Receiver<Line>, shared: &Shared) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let _ = client.set_nodelay(true);
    let (mut client_in, mut client_out) = client.split();
    let (mut server_in, mut server_out) = tokio::io::split(server);
    let commits = AtomicBool::new(false);
    tokio::try_join!(
        pump(&mut client_in, &mut server_out, Way::There(&commits), line.clone(), shared),
        pump(&mut server_in, &mut client_out, Way::Back(&commits), line, shared),
    )
    .map(|_both| ())
}

/// Which way, and whether a COMMIT is on its way there whose answer is to be lost.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    There(&'a AtomicBool),
    Back(&'a AtomicBool),
}

/// How sqlx ends a transaction: a simple query.
const COMMIT: &[u8] = b"COMMIT\0";

/// Carries bytes one way, as the line lets it.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    way: Way<'_>,
    mut line: watch::Receiver<Line>,
    shared: &Shared,
) -> io::Result<()> {
    /// How much is carried at once, and how often where the line is slow.
    const PIECE: usize = 64 << 10;
    const SLOW: Duration = Duration::from_millis(50);
    let hit = || shared.hits.fetch_add(1, Ordering::Relaxed);
    let cut = || {
        hit();
        Err(io::ErrorKind::ConnectionReset.into())
    };
    let mut piece = vec![0; PIECE];
    let mut left = u64::MAX;
    loop {
        let now = *line.borrow_and_update();
        match now {
            Line::Refused | Line::Reset => return cut(),
            Line::Closed => {
                hit();
                return to.shutdown().await;
            }
            Line::Stalled => {
                hit();
                if line.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Line::CutAfter(bytes) => left = left.min(bytes),
            Line::Good | Line::Slow(_) | Line::ReplyLost | Line::CommitLost => left = u64::MAX,
        }
        let most = match now {
            Line::Slow(a_second) => usize::try_from(a_second / 20).unwrap_or(PIECE).clamp(1, PIECE),
            _ => PIECE,
        };
        let read = tokio::select! {
            biased;
            changed = line.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            read = from.read(&mut piece[..most]) => read?,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        match (now, way) {
            (Line::CommitLost, Way::There(commits))
                if piece[..read].windows(COMMIT.len()).any(|part| part == COMMIT) =>
            {
                commits.store(true, Ordering::SeqCst);
            }
            (Line::CommitLost, Way::Back(commits)) if commits.load(Ordering::SeqCst) => return cut(),
            (Line::ReplyLost, Way::Back(_)) => return cut(),
            (_, Way::Back(commits)) => commits.store(false, Ordering::SeqCst),
            _ => {}
        }
        let passing = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&piece[..passing]).await?;
        if passing < read {
            return cut();
        }
        left -= passing as u64;
        if matches!(now, Line::Slow(_)) {
            hit();
            tokio::time::sleep(SLOW).await;
        }
    }
}
