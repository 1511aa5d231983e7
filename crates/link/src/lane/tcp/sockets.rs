//! The sockets of a lane's connections, and which congestion control of the kernel each of them has while
//! the lane lives. It is changed under one lock: whether the lane gives way is decided under it too, so
//! no socket that comes meanwhile, and no look at what suits a path, undoes that.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::net::TcpStream;

#[cfg(target_os = "linux")]
use super::congestion::{self, Past};
use super::stream;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sockets(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: Vec<Noted>,
    /// Whether what is sent leaves the path to others.
    gives_way: bool,
}

#[derive(Debug)]
struct Noted {
    socket: Weak<TcpStream>,
    #[cfg(target_os = "linux")]
    past: Past,
}

impl Sockets {
    /// Notes the socket of a connection that joins the lane.
    pub(super) fn note(&self, socket: &Arc<TcpStream>) {
        let mut inner = self.lock();
        if inner.gives_way {
            stream::give_way(socket);
        }
        inner.all.push(Noted {
            socket: Arc::downgrade(socket),
            #[cfg(target_os = "linux")]
            past: Past::default(),
        });
    }

    /// Those of the connections that live.
    pub(super) fn live(&self) -> Vec<Arc<TcpStream>> {
        let mut inner = self.lock();
        inner.all.retain(|noted| noted.socket.strong_count() > 0);
        inner.all.iter().filter_map(|noted| noted.socket.upgrade()).collect()
    }

    /// Leaves the path to others from now on, as far as the system allows.
    pub(super) fn give_way(&self) {
        let mut inner = self.lock();
        inner.gives_way = true;
        inner.all.iter().filter_map(|noted| noted.socket.upgrade()).for_each(|socket| {
            stream::give_way(&socket);
        });
    }

    pub(super) fn gives_way(&self) -> bool {
        self.lock().gives_way
    }

    /// Sees to it that each connection has the congestion control that suits what was seen of its path,
    /// unless the lane gives way. An error says that the system does not let us change it.
    #[cfg(target_os = "linux")]
    pub(super) fn review(&self) -> io::Result<()> {
        self.review_with(congestion::review)
    }

    #[cfg(target_os = "linux")]
    fn review_with(
        &self,
        review: impl Fn(&TcpStream, &mut Past) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.gives_way {
            return Ok(());
        }
        inner.all.iter_mut().try_for_each(|noted| match noted.socket.upgrade() {
            Some(socket) => review(&socket, &mut noted.past),
            None => Ok(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection of a kind that does not give way, as long as the system has one.
    async fn connection() -> (Arc<TcpStream>, TcpListener) {
        let listener = TcpListener::bind(crate::rig::any_port()).await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        be_greedy(&socket).unwrap();
        (Arc::new(socket), listener)
    }

    fn be_greedy(socket: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"bbr"))
    }

    fn check(socket: &TcpStream, gives_way: bool) {
        let name = SockRef::from(socket).tcp_congestion().unwrap();
        let modest = name.starts_with(b"lp") || name.starts_with(b"reno");
        assert_eq!(modest, gives_way, "{}", String::from_utf8_lossy(&name));
    }

    #[tokio::test]
    async fn all_give_way_and_those_that_come_later_too() {
        let (sockets, (first, _listening)) = (Sockets::default(), connection().await);
        sockets.note(&first);
        check(&first, false);
        sockets.give_way();
        check(&first, true);
        let (later, _listening) = connection().await;
        sockets.note(&later);
        check(&later, true);
        sockets.review_with(|socket, _| be_greedy(socket)).unwrap();
        check(&first, true);
        check(&later, true);
        drop(first);
        assert_eq!(sockets.live().len(), 1);
    }

    #[tokio::test]
    async fn a_look_that_is_under_way_does_not_undo_it() {
        let (sockets, (socket, _listening)) = (Sockets::default(), connection().await);
        sockets.note(&socket);
        std::thread::scope(|scope| {
            let review = |socket: &TcpStream, _: &mut Past| {
                // It gets as far as it can before this look decides.
                let giving_way = scope.spawn(|| sockets.give_way());
                for _ in 0..50 {
                    if !giving_way.is_finished() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                be_greedy(socket)
            };
            sockets.review_with(review).unwrap();
        });
        check(&socket, true);
    }
}
