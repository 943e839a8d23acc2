//! The sending half of a connection: acknowledgements and deliveries, many packets in one write.

use std::collections::{HashSet, VecDeque};

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::broker::Delivery;
use super::codec::{self, Outgoing, QoS, Version};

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 64 * 1024;

/// What the receiving half asks the sending half to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Send this.
    Send(Outgoing),
    /// Deliver this after what was sent before.
    Deliver(Delivery),
    /// The client acknowledged a delivery.
    Acknowledged(u16),
}

pub(super) struct Writer<W> {
    socket: W,
    version: Version,
    max_packet_bytes: usize,
    receive_maximum: usize,
    buffer: BytesMut,
    /// Deliveries in front of those in the channel.
    pending: VecDeque<Delivery>,
    unacknowledged: HashSet<u16>,
    last_pkid: u16,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(
        socket: W,
        version: Version,
        max_packet_bytes: usize,
        receive_maximum: u16,
    ) -> Writer<W> {
        Writer {
            socket,
            version,
            max_packet_bytes,
            receive_maximum: usize::from(receive_maximum.clamp(1, super::RECEIVE_MAXIMUM)),
            buffer: BytesMut::new(),
            pending: VecDeque::new(),
            unacknowledged: HashSet::new(),
            last_pkid: 0,
        }
    }

    /// Runs until the receiving half has gone and everything that it asked for is written.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut deliveries: mpsc::Receiver<Delivery>,
    ) -> std::io::Result<()> {
        loop {
            let ready = self.may_deliver() && self.pending.is_empty();
            let mut open = true;
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => open = false,
                },
                Some(delivery) = deliveries.recv(), if ready => self.deliver(&delivery),
            }
            while self.buffer.len() < WRITE_BYTES {
                if let Ok(command) = commands.try_recv() {
                    self.apply(command);
                } else if !self.may_deliver() {
                    break;
                } else if let Some(delivery) = self.pending.pop_front() {
                    self.deliver(&delivery);
                } else if let Ok(delivery) = deliveries.try_recv() {
                    self.deliver(&delivery);
                } else {
                    break;
                }
            }
            self.socket.write_all_buf(&mut self.buffer).await?;
            if !open {
                return self.socket.shutdown().await;
            }
        }
    }

    fn may_deliver(&self) -> bool {
        self.unacknowledged.len() < self.receive_maximum
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Send(packet) => codec::encode(self.version, packet, &mut self.buffer),
            Command::Deliver(delivery) => self.pending.push_back(delivery),
            Command::Acknowledged(pkid) => {
                self.unacknowledged.remove(&pkid);
            }
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let pkid = if delivery.qos == QoS::AtMostOnce {
            0
        } else {
            self.next_pkid()
        };
        let taken = codec::encode_publish(
            self.version,
            delivery,
            pkid,
            self.max_packet_bytes,
            &mut self.buffer,
        );
        if taken && pkid != 0 {
            self.unacknowledged.insert(pkid);
        }
    }

    fn next_pkid(&mut self) -> u16 {
        // Far fewer are unacknowledged than there are numbers.
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains(&self.last_pkid) {
                return self.last_pkid;
            }
        }
    }
}
