//! The link: two namespaces joined by a pair of virtual Ethernet devices, nothing back, and the packets that
//! are lost on purpose.
//!
//! Such devices hand a sender's large buffers over whole, as segmentation offload lets them; no packet of
//! its own could get lost then. So wherever packets are to be lost, the sender's kernel cuts them up before
//! they leave, which costs it time that a network card would not.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use badlink::{End, Pair, PairOptions};
use serde::{Deserialize, Serialize};

use crate::bench::machine;
use crate::bench::warden::{Sysctl, Warden};

/// What it is made with besides iproute2.
pub const TOOLS: [(&str, &str); 2] = [("nft", "nftables"), ("ethtool", "ethtool")];

/// Packets that wait for a processor at the receiving device.
const BACKLOG: &str = "net.core.netdev_max_backlog";

/// What passes the link, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Bytes of a packet, with its headers.
    pub packet: u32,
    /// Whether large buffers pass whole.
    pub offload: bool,
}

impl Setting {
    /// Packets of 1,500 bytes, and the cheapest way for the sender.
    pub const FAST: Self = Self { packet: 1500, offload: true };
    /// The same, but each packet passes for itself.
    pub const SEGMENTS: Self = Self { packet: 1500, offload: false };

    /// All, in the order of the page.
    pub const ALL: [Self; 4] = [
        Self::FAST,
        Self::SEGMENTS,
        Self { packet: 9000, offload: true },
        Self { packet: 9000, offload: false },
    ];
}

/// A link of some setting.
#[derive(Debug)]
pub struct Link {
    /// The namespaces.
    pub pair: Pair,
    /// What passes.
    pub setting: Setting,
}

impl Link {
    /// Makes one that loses nothing.
    pub fn make(warden: &Warden, setting: Setting) -> Result<Self> {
        let mtu = setting.packet as usize;
        let pair = warden.pair(PairOptions {
            model: None,
            mtu,
            one_way: true,
            ..PairOptions::default()
        })?;
        if !setting.offload {
            let mut command = pair.command(End::A, "ethtool");
            command.args(["-K", "link0", "tx-udp-segmentation", "off", "gso", "off"]);
            machine::output(&mut command).context("switch segmentation offload off")?;
        }
        Ok(Self { pair, setting })
    }

    /// From now on so many of a thousand packets are lost, whichever.
    pub fn lose(&self, per_mille: u32) -> Result<()> {
        let mut rules = "table netdev bench\ndelete table netdev bench\n".to_owned();
        if per_mille > 0 {
            if self.setting.offload {
                bail!("what passes whole cannot be lost packet by packet");
            }
            rules += &format!(
                "table netdev bench {{\nchain entry {{\n\
                 type filter hook ingress device \"link0\" priority 0;\n\
                 numgen random mod 1000 < {per_mille} counter drop\n}}\n}}\n"
            );
        }
        let mut command = self.pair.command(End::B, "nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start nft")?;
        if let Some(mut input) = child.stdin.take() {
            // One that ends without reading says why itself.
            let _ = input.write_all(rules.as_bytes());
        }
        let output = child.wait_with_output().context("wait for nft")?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Packets that were lost on purpose.
    pub fn dropped(&self) -> Result<u64> {
        let mut command = self.pair.command(End::B, "nft");
        let listed = machine::output(command.args(["list", "tables"]))?;
        if !listed.contains("netdev bench") {
            return Ok(0);
        }
        let mut command = self.pair.command(End::B, "nft");
        let rules = machine::output(command.args(["list", "table", "netdev", "bench"]))?;
        counted(&rules).with_context(|| format!("nft does not say how many it dropped: {rules}"))
    }

    /// Packets that the receiving host has sent.
    pub fn back(&self) -> Result<u64> {
        self.pair.sent(End::B).context("the kernel does not say how many packets were sent")
    }
}

/// The first count of packets among rules, as nft lists them.
fn counted(rules: &str) -> Option<u64> {
    rules.split_once("counter packets ")?.1.split_whitespace().next()?.parse().ok()
}

/// Says what is missing and how to get it.
pub fn need_tools() -> Result<()> {
    for (program, package) in TOOLS {
        if machine::find(program).is_none() {
            bail!(
                "{program} is not installed, which this bench needs to lose packets one by one; \
                 on Debian: apt-get install {package}"
            );
        }
    }
    Ok(())
}

/// Lets more packets wait at a virtual device than the kernel does by itself, until the guard is dropped.
pub fn let_queue(warden: &Warden) -> Option<Sysctl> {
    let told = warden.sysctl(BACKLOG, "10000");
    told.map_err(|error| eprintln!("warning: {error:#}")).ok()
}

/// How packets are lost, as one would type it.
pub fn shown_rules() -> Vec<&'static str> {
    vec![
        "ip netns exec $A ethtool -K link0 tx-udp-segmentation off gso off",
        "ip netns exec $B nft add table netdev bench",
        "ip netns exec $B nft 'add chain netdev bench entry { type filter hook ingress device \"link0\" priority 0; }'",
        "ip netns exec $B nft add rule netdev bench entry numgen random mod 1000 '<' 5 counter drop    # 0.5 %",
    ]
}

#[cfg(test)]
mod tests;
