//! How a listener comes out of a network namespace. In: one end of a Unix connection, and a listener. Out: the listener, at
//! the other end. The connection then says by its end that the sandbox is over.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Hands `listener` over.
pub(in crate::sandbox) fn hand_over(door: impl AsFd, listener: impl AsFd) -> io::Result<()> {
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("there is no room for a file"));
    }
    sendmsg(door, &[IoSlice::new(b"L")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes what was handed over.
pub(super) async fn take(door: &UnixStream) -> io::Result<OwnedFd> {
    loop {
        door.readable().await?;
        match door.try_io(Interest::READABLE, || receive(door)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

fn receive(door: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(door, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.next().and_then(|mut files| files.next());
    file.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up, or sent no file"))
}

/// Completes when everybody at the other end is gone. Whatever else comes from there is not for us, and ends it too.
pub(super) async fn until_gone(door: &UnixStream) {
    loop {
        if door.readable().await.is_err() {
            return;
        }
        let mut byte = [0];
        match door.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}
