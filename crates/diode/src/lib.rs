//! One-way replication: what crosses a data diode, and what its two ends make of it.
//! Nothing is ever sent back, so nothing here waits for an answer. Format: `docs/formats/diode.md`.
//!
//! [`Sender`] and [`Receiver`] are the two ends; [`Outgoing`] and [`Incoming`] carry frames as datagrams or in a
//! byte stream; [`Inlets`] and [`Outlets`] are channels beside the files. What decides, codes and checks is pure.

mod announce;
mod block;
mod carrier;
mod channel;
mod event;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod intake;
mod intervals;
mod key;
mod manifest;
mod priority;
mod receive;
mod record;
mod rehearse;
mod replay;
mod resync;
#[cfg(test)]
mod rig;
mod send;
mod session;
mod shares;
mod span;
mod symbol;
mod want;

pub use announce::{Announcement, AnnouncementError, MOST_RECEIVERS, announce};
pub use block::{Added, Assembly, BLOCK, Coder, Layout, LayoutError, Restorer, repair_symbols};
pub use carrier::{
    Address, AddressError, Arrival, Buffer, CarrierError, Datagrams, DatagramsMut, InCounters,
    InMeter, InOptions, Incoming, OutCounters, OutMeter, OutOptions, Outgoing, Sent,
};
pub use channel::{
    ChannelCounters, ChannelError, ChannelIn, ChannelOut, Inlets, Outlets, StreamSink,
};
pub use event::{DiodeEvent, OnEvent, Refusal, Tally};
pub use frame::{Check, Class, HEADER, Header, MARKER, MOST_FRAME, TAG};
pub use intake::{BlockId, Intake, Spilled, Taken};
pub use intervals::Intervals;
pub use key::{DiodeKey, DiodePublicKey, KeyError, TrustLine};
pub use manifest::{Change, MOST_PAGE, Page, PageError, Told};
pub use receive::{
    ChannelSink, Deletes, HeardRehearsal, JournalError, LinkStatus, Quarantine, ReceiveError,
    ReceiveOptions, ReceiveStatus, Receiver, RehearsalReceiver, Requests, StatusHandle, TreeStatus,
    receiver_key,
};
pub use record::{Carrier, GenerationEnd, Heartbeat, Record, RecordError, Records, RehearsalStep};
pub use rehearse::{Advice, BufferAdvice, MOST_STEPS, Recommended, StepReport, Verdict, advise};
pub use replay::{Replay, WINDOW};
pub use resync::{Judge, Resync};
pub use send::{
    Control, EngineOptions, EpochError, Epochs, Given, Line, RehearseOptions, Request, SendError,
    SendEvent, SendOptions, SendReport, SendStatus, Sender, rehearse,
};
pub use session::{Opener, SealError, Sealer, SessionId, SessionSecret};
pub use shares::Shares;
pub use span::{Spread, span};
pub use symbol::{MOST_LENGTH, ObjectKind, SYMBOL_HEAD, SymbolError, SymbolHead};
pub use want::{MOST_RANGES, Range, WantError, WantList, to_ranges};

#[cfg(test)]
mod tests;
