"""What the kernels of nodes are to have for encrypted networks, for network_truth.py: who encrypts for whom,
what the other one can read, and what is kept from leaving in plain text. How keys are made is not known
here: what one node sends with has to be what the other one receives with.
"""

import re

OURS = 0x40000000  # request ids of states from here on
LANES = 4          # keys for each direction and key of the ring, all of which are received with
MARKING = "table netdev muster_esp"  # in a network's namespace
COMMANDS = ("ip xfrm state", "ip xfrm policy")


def stanzas(listing):
    """Those of `ip xfrm`: a line that begins at its beginning, and what is indented below it."""
    return [text for text in re.split(r"\n(?=\S)", listing) if text.strip()]


def find(pattern, text):
    found = re.search(pattern, text)
    return found.group(1) if found else ""


class Kernel:
    """States as {(from, to, SPI): (key, UDP port)}, policies as {peer: SPI}, and the networks that are guarded."""

    def __init__(self, states, policies, guard):
        self.states, self.policies, self.blocks = {}, {}, False
        for text in stanzas(states):
            if int(find(r"reqid (\d+)", text) or 0) < OURS:
                continue
            ends = re.match(r"src (\S+) dst (\S+)", text).groups()
            how = find(r"aead \S+ (\S+)", text), find(r"dport (\d+)\s+addr", text)
            self.states[(*ends, find(r"spi (\S+)", text))] = how
        for text in stanzas(policies):
            if "\tmark 0x5d" not in text or "dir out" not in text:
                continue
            if "action block" in text:
                self.blocks = True
            else:
                self.policies[find(r"tmpl src \S+ dst (\S+)", text)] = find(r"spi (\S+)", text)
        self.guarded = {int(vni) for vni in re.findall(r"chain vni_(\d+) ", guard)}


class Encryption:
    def __init__(self, truth):
        self.truth = truth
        self.networks = {i for i, n in truth.managers.networks.items() if "encrypted" in (n.get("Options") or {})}
        self.kernels = {}  # by node

    def guard(self, node, table):
        """The name of the node's guard, if it is to have one."""
        return {f"table inet esp_{table}"} if self.vnis(node) else set()

    def vnis(self, node):
        return {self.truth.managers.networks[n]["VNI"] for n in self.networks if self.truth.members(n, node)[0]}

    def peers(self, node):
        taken_part = [self.truth.members(n, node) for n in self.networks]
        return {path for here, far in taken_part if here for _, _, path in far}

    def compare_node(self, node, where, states, policies, guard):
        kernel = self.kernels[node] = Kernel(states, policies, guard)
        peers, own = self.peers(node), self.truth.data_path(node)
        self.truth.equal(where, "networks kept from leaving in plain text", kernel.guarded, self.vnis(node))
        self.truth.equal(where, "what is for nobody is dropped", kernel.blocks, bool(self.vnis(node)))
        self.truth.equal(where, "nodes that are encrypted for", set(kernel.policies), peers)
        self.truth.equal(where, "states that are sent with",
                         {(to, spi) for source, to, spi in kernel.states if source == own},
                         set(kernel.policies.items()))
        received = [source for source, to, _ in kernel.states if to == own]
        self.truth.equal(where, "nodes that are received from", set(received), peers)
        counts = {received.count(peer) for peer in received}
        if len(counts) > 1 or any(count not in (LANES, 2 * LANES, 3 * LANES) for count in counts):
            self.truth.differs(where, f"states that are received with, by node: {sorted(counts)}")

    def compare(self):
        """What one sends with, the other receives with, and all have as many keys."""
        by_path = {self.truth.data_path(node): kernel for node, kernel in self.kernels.items()}
        for own, kernel in by_path.items():
            for state in kernel.states.items():
                (_, to, spi), _ = state
                if to in by_path and to != own and state not in by_path[to].states.items():
                    self.truth.differs(f"node at {own}", f"what it sends to {to} with SPI {spi} is not understood there")
        keys = {len(kernel.states) // len(kernel.policies) for kernel in by_path.values() if kernel.policies}
        if len(keys) > 1:
            self.truth.differs("encryption", f"nodes have different numbers of states for each other: {sorted(keys)}")
