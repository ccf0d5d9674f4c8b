"""Compares what the kernel of every node has with what the managers say, from outside: nothing of
muster's own that looks or mends has a part in it but the command line that shows the managers' state.

network_truth.py RUN-FOLDER NETNS-PREFIX MANAGER NODE...

Prints one line for each difference, and nothing when the kernel equals the truth. Node N has its
socket at RUN-FOLDER/N/muster.sock and its network in the namespace NETNS-PREFIX-N. It has to be quiet:
what is under way differs.
"""

import concurrent.futures
import ipaddress
import json
import os
import re
import subprocess
import sys

import encryption_truth

SPLIT = "=-=-=-="
RESOLVER = "127.0.0.11"
HZ = (100, 250, 300, 1000)  # the kernel's ticks a second: what it can be built with
PORT_MAPS = ("", "_at4", "_at6", "_in")  # published ports: all addresses, those bound to one, to an interface
MESH_MARK = 0x4d000000  # and a node's index: of connections that came in by it
MESH_RULE, MESH_TABLE = 74, "77"  # priority of the rule, and the table, by which a task's answers leave


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def in_namespace(path, *commands):
    """What each of the commands says in the network namespace; nothing where it fails."""
    script = f"; echo {SPLIT}; ".join(f"{c} 2>/dev/null" for c in commands)
    said = run("nsenter", f"--net={path}", "sh", "-c", f"{script}; true").split(SPLIT + "\n")
    return [text.strip() for text in said]


def plain(cidr):
    return cidr.split("/")[0]


def read_maps(listing):
    """Maps of a table as `nft -j` lists it: name -> {key: value}; and chain -> maps it looks into."""
    maps, uses = {}, {}
    for entry in json.loads(listing or '{"nftables": []}')["nftables"]:
        if "map" in entry or "set" in entry:
            each = entry.get("map") or entry.get("set")
            elements = {}
            for element in each.get("elem", []):
                key, value = element if "map" in entry else (element, None)
                if isinstance(key, dict) and "elem" in key:
                    key = key["elem"]["val"]
                if isinstance(key, dict) and "concat" in key:
                    key = tuple(part if isinstance(part, (str, int)) else json.dumps(part)
                                for part in key["concat"])
                if isinstance(key, dict):  # prefixes and ranges of sets that nothing is asked of
                    key = json.dumps(key)
                if isinstance(value, dict):
                    value = (value.get("goto") or value.get("jump"))["target"]
                elements[key] = value
            maps[each["name"]] = elements
        elif "rule" in entry:
            rule = entry["rule"]
            uses.setdefault(rule["chain"], set()).update(
                re.findall(r'"@((?:slots|m4|m6)_[^"]*)"', json.dumps(rule["expr"])))
    return maps, uses


def port_key(bind, protocol, number):
    """Of a published port: what the map's name ends with that has it, and the key there."""
    if not bind:
        return "", (protocol, number)
    try:
        return f"_at{ipaddress.ip_address(bind).version}", (bind, protocol, number)
    except ValueError:
        return "_in", (bind, protocol, number)


def listener(any_of, bind, number):
    """As `ss` has it: at all addresses of a family, or those of an interface."""
    return f"{any_of}{'%' + bind if bind else ''}:{number}"


def read_ipvs(listing):
    """Services by mark of a /proc/net/ip_vs: mark -> (scheduler, a client's memory in the kernel's ticks,
    {backend: weight}, {backend: flows that it remembers})."""
    services, backends = {}, None
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["FWM"]:
            # FWM 49000000 wrr [persistent TICKS NETMASK]; IPv6's has "IPv6" before the scheduler.
            options = [word for word in words[2:] if word != "IPv6"]
            memory = int(options[options.index("persistent") + 1]) if "persistent" in options else 0
            backends, flows = {}, {}
            services[int(words[1], 16)] = (options[0], memory, backends, flows)
        elif words[:1] == ["->"] and backends is not None and words[1] != "RemoteAddress:Port":
            # -> 0A1F0003:0000 Masq 1 0 0, and -> [fd00:0000:...]:0000 Masq 1 0 0
            address = words[1].rpartition(":")[0]
            address = address[1:-1] if address.startswith("[") else int(address, 16)
            address = str(ipaddress.ip_address(address))
            backends[address], flows[address] = int(words[3]), int(words[4]) + int(words[5])
        elif words and words[0] in ("TCP", "UDP", "SCTP"):
            backends = None  # of an address, hence none of ours
    return services


class Managers:
    """What they say: tasks, networks, virtual addresses, ports, nodes."""

    def __init__(self, truth, manager):
        def ask(*arguments):
            return json.loads(truth.muster(manager, *arguments) or "[]")

        def ids(*arguments):
            return truth.muster(manager, *arguments).split()

        self.nodes = {n["ID"]: n for n in ask("node", "inspect", *ids("node", "ls", "-q"))}
        self.networks = {}
        macs = {}
        for network in ask("network", "inspect", "--verbose", *ids("network", "ls", "-q")):
            if network["Scope"] != "swarm" or "VNI" not in network:
                continue
            self.networks[network["ID"]] = network
            for service in network["Services"].values():
                for task in service["Tasks"]:
                    macs[task["EndpointID"], network["ID"]] = task["Info"]["MAC"]
            for task in network.get("Connected", []):
                macs[task["Task"], network["ID"]] = task["MacAddress"]
        services = ids("service", "ls", "-q")
        self.services = ask("service", "inspect", *services) if services else []
        self.names = {s["ID"]: s["Spec"]["Name"] for s in self.services}
        shown = set()
        if services:
            shown = set(ids("service", "ps", "-q", "--no-trunc", *services))
        tasks = ask("task", "inspect", *sorted(shown)) if shown else []
        self.unsettled = []
        self.tasks = []
        for task in tasks:
            state, wanted = task["Status"]["State"], task["DesiredState"]
            if state in ("complete", "shutdown", "failed", "rejected", "remove", "orphaned"):
                continue
            if state != "running" or wanted != "running":
                self.unsettled.append(f"task {task['Name']} is {state} and shall be {wanted}")
            networks = {}
            for each in task.get("NetworksAttachments", []):
                network = each["Network"]["ID"]
                networks[network] = ([plain(a) for a in each["Addresses"]],
                                     macs.get((task["ID"], network), "?"))
            self.tasks.append({"id": task["ID"], "name": task["Name"], "node": task["NodeID"],
                               "service": task["ServiceID"], "networks": networks,
                               "weight": self.weight(task["ServiceID"], task["NodeID"])})

    def endpoint(self, service):
        return next((s["Spec"].get("EndpointSpec") or {} for s in self.services if s["ID"] == service), {})

    def weight(self, service, node):
        """By the label of its node that the service names; what is no number from 1 to 100 is 1."""
        label = self.endpoint(service).get("WeightLabel")
        value = (self.nodes[node]["Spec"].get("Labels") or {}).get(label, "") if label and node else ""
        return int(value) if re.fullmatch("[0-9]+", value) and 1 <= int(value) <= 100 else 1

    def vips(self):
        """Network -> {address: (service, {addresses of its tasks of that family: weight})}"""
        out = {}
        for service in self.services:
            for each in service.get("Endpoint", {}).get("VirtualIPs") or []:
                vip = plain(each["Addr"])
                out.setdefault(each["NetworkID"], {})[vip] = (
                    service, self.weights(service["ID"], each["NetworkID"], ipaddress.ip_address(vip).version))
        return out

    def weights(self, service, network, version=4):
        return {a: w for a, w in self.behind(service, network).items() if ipaddress.ip_address(a).version == version}

    def behind(self, service, network, node=None):
        """Addresses of its tasks, on the node if one is given, and their weights."""
        return {a: t["weight"] for t in self.tasks
                if t["service"] == service and network in t["networks"] and node in (None, t["node"])
                for a in t["networks"][network][0]}

    def addresses(self, service, network, version=4):
        return set(self.weights(service, network, version))


class Truth:
    def __init__(self, folder, prefix, manager, numbers):
        self.folder, self.prefix, self.numbers = folder, prefix, numbers
        self.differences = []
        self.managers = Managers(self, manager)
        self.encryption = encryption_truth.Encryption(self)
        self.ingress = next((i for i, n in self.managers.networks.items() if n["Ingress"]), "")
        self.number_of = {i: n["Description"]["Hostname"].removeprefix("node")
                          for i, n in self.managers.nodes.items()}

    def muster(self, number, *arguments):
        return run("muster", "--socket", f"unix://{self.folder}/{number}/muster.sock", *arguments)

    def differs(self, where, what):
        self.differences.append(f"{where}: {what}")

    def equal(self, where, what, has, wanted):
        if has == wanted:
            return
        if isinstance(has, (set, frozenset)) and isinstance(wanted, (set, frozenset)):
            self.differs(where, f"{what}: too many {sorted(has - wanted)}, missing {sorted(wanted - has)}")
        else:
            self.differs(where, f"{what}: {has} instead of {wanted}")

    def data_path(self, node):
        return self.managers.nodes[node]["Description"]["DataPath"]["Address"]

    # ---------------------------------------------------------------- a network on a node

    def members(self, network, node):
        """Of this node (their number), and elsewhere: (address, MAC, data path)."""
        here, far = 0, set()
        for task in self.managers.tasks:
            if network not in task["networks"]:
                continue
            addresses, mac = task["networks"][network]
            if task["node"] == node:
                here += 1
                continue
            far.update((a, mac, self.data_path(task["node"])) for a in addresses)
        if network == self.ingress:
            for other, about in self.managers.nodes.items():
                place = about.get("Ingress")
                if place and other == node:
                    here += 1
                elif place:
                    far.update((plain(a), place["MacAddress"], self.data_path(other))
                               for a in place["Addresses"])
        return here, far

    def compare_segment(self, node, network, pin, here, far):
        about = self.managers.networks[network]
        where = f"node {self.number_of[node]}, network {about['Name']}"
        links, fdb, neighbours, tables = in_namespace(pin, "ip -d -j link", "bridge -j fdb show",
                                                      "ip -j neigh show dev br0", "nft list tables")
        links = {each["ifname"]: each for each in json.loads(links)}
        ends = [name for name, each in links.items()
                if each.get("linkinfo", {}).get("info_kind") == "veth"]
        self.equal(where, "interfaces of members", len(ends), here)
        for name in ends + ["br0"] + (["vx0"] if far else []):
            if name not in links:
                self.differs(where, f"{name} is missing")
                continue
            self.equal(where, f"MTU of {name}", links[name]["mtu"], about["MTU"])
            if "UP" not in links[name]["flags"]:
                self.differs(where, f"{name} is down")
            if name != "br0":
                self.equal(where, f"bridge of {name}", links[name].get("master"), "br0")
        self.equal(where, "the tunnel is there", "vx0" in links, bool(far))
        if "vx0" in links and far:
            tunnel = links["vx0"]["linkinfo"]["info_data"]
            self.equal(where, "VNI, port, address",
                       (tunnel["id"], tunnel["port"], tunnel.get("local") or tunnel.get("local6")),
                       (about["VNI"], 4789, self.data_path(node)))
        rows = json.loads(fdb or "[]")
        self.equal(where, "forwarding entries of the tunnel",
                   {(r["mac"], r["dst"]) for r in rows if r["ifname"] == "vx0" and "dst" in r},
                   {(mac, path) for _, mac, path in far})
        self.equal(where, "MACs behind the tunnel",
                   {r["mac"] for r in rows if r["ifname"] == "vx0" and r.get("master") == "br0"
                    and r.get("state") != "permanent"},
                   {mac for _, mac, _ in far})
        self.equal(where, "neighbours",
                   {(r["dst"], r.get("lladdr", "?")) for r in json.loads(neighbours or "[]")
                    if "PERMANENT" in r["state"]},
                   {(address, mac) for address, mac, _ in far})
        self.equal(where, "what leaves is marked to be encrypted",
                   encryption_truth.MARKING in tables.splitlines(),
                   "vx0" in links and network in self.encryption.networks)
        if network == self.ingress:
            self.compare_mesh(where, pin)

    def compare_mesh(self, where, pin):
        """Which node's MAC gives a connection its mark and its zone, and to whose answers with the mark go."""
        answers, connections = (read_maps(listing)[0] for listing in in_namespace(
            pin, "nft -j list table bridge mesh", "nft -j list table inet mesh"))
        wanted = {(n["Ingress"]["Index"], n["Ingress"]["MacAddress"])
                  for n in self.managers.nodes.values() if "Ingress" in n}
        marked = {(MESH_MARK | index, mac) for index, mac in wanted}
        self.equal(where, "nodes of the mesh",
                   {(int(mark), mac) for mark, mac in answers.get("macs", {}).items()}, marked)
        self.equal(where, "marks of connections",
                   {(int(mark), mac) for mac, mark in connections.get("marks", {}).items()}, marked)
        self.equal(where, "zones of connections",
                   {(int(zone), mac) for mac, zone in connections.get("zones", {}).items()}, wanted)

    # ---------------------------------------------------------------- a container

    def compare_container(self, task, container, pin):
        where = f"node {self.number_of[task['node']]}, {task['name']} ({container[:12]})"
        addresses, table, ipvs, local, names, sockets, *ways_by_family = in_namespace(
            pin, "ip -j address", "nft -j list table inet muster_vip", "cat /proc/net/ip_vs",
            "ip -j route show table local type local", "nft -j list table inet muster_dns", "ss -Hltun",
            *(f"ip -{family} -j {what}" for family in (4, 6) for what in ("rule", "route show table all")))
        has = set()
        for link in json.loads(addresses):
            for each in link["addr_info"]:
                if link["ifname"] != "lo" and each["scope"] == "global":
                    has.add((each["local"], link["address"]))
        wanted = {(a, mac) for ips, mac in task["networks"].values() for a in ips}
        ways = {a for a, _ in has - wanted if ipaddress.ip_address(a).version == 4}
        # A way out is one address more.
        leads_out = self.leads_out(task)
        if wanted - has:
            self.differs(where, f"interfaces that it lacks: {sorted(wanted - has)}")
        self.equal(where, "ways out", len(ways), 1 if leads_out else 0)
        self.compare_vips(where, task, table, read_ipvs(ipvs), local)
        self.compare_resolver(where, names, sockets)
        for family, rules, routes in (4, *ways_by_family[:2]), (6, *ways_by_family[2:]):
            self.compare_routes(f"{where}, IPv{family}", task, family, json.loads(rules), json.loads(routes))

    def compare_resolver(self, where, table, sockets):
        """Questions at 127.0.0.11 are led to the sockets that netd has there."""
        led = set()
        for entry in json.loads(table or '{"nftables": []}')["nftables"]:
            expr = entry.get("rule", {}).get("expr", [])
            fields = [e["match"] for e in expr if "payload" in e.get("match", {}).get("left", {})]
            asked = {each["left"]["payload"]["protocol"]: each["right"] for each in fields}
            for to in (e["dnat"] for e in expr if "dnat" in e):
                led.add((next(p for p in asked if p != "ip"), asked.get("ip"), to["addr"], to["port"]))
        wanted = set()
        for protocol, _, _, _, here, *_ in map(str.split, sockets.splitlines()):
            address, _, port = here.rpartition(":")
            if address == RESOLVER:
                wanted.add((protocol, RESOLVER, address, int(port)))
        self.equal(where, "questions for names are led", led, wanted)
        self.equal(where, "sockets of the resolver", {each[0] for each in wanted}, {"tcp", "udp"})

    def compare_routes(self, where, task, family, rules, routes):
        """Every subnet of its networks is on the link; answers of its address in the mesh have a table."""
        def of_family(network):
            return {each["Subnet"] for each in self.managers.networks[network]["IPAM"]["Config"]
                    if ipaddress.ip_network(each["Subnet"]).version == family}

        wanted, known, published, mesh = set(), set(), set(), set()
        for network in self.managers.networks:
            own = {a for a in task["networks"].get(network, ([], ""))[0]
                   if ipaddress.ip_address(a).version == family}
            known |= of_family(network)
            wanted |= of_family(network) if own else set()
            if network == self.ingress and own:
                published, mesh = own, {"default"} | of_family(network)
        self.equal(where, "subnets on the link", {r["dst"] for r in routes if "table" not in r} & known, wanted)
        self.equal(where, "addresses whose answers have a table",
                   {r["src"] for r in rules if (r["priority"], r["table"]) == (MESH_RULE, MESH_TABLE)}, published)
        self.equal(where, "ways of those answers",
                   {(r["dst"], r.get("prefsrc")) for r in routes if r.get("table") == MESH_TABLE},
                   {(to, address) for to in mesh for address in published})

    def leads_out(self, task):
        """One of internal networks alone speaks to nobody else; the ingress network says nothing of it."""
        own = [n for n in task["networks"] if n != self.ingress]
        return not own or any(not self.managers.networks[n]["Internal"] for n in own)

    def compare_vips(self, where, task, table, ipvs, local):
        wanted = {}
        for network, vips in self.managers.vips().items():
            if network in task["networks"] and network != self.ingress:
                wanted.update(vips)
        maps, uses = read_maps(table)
        guarded = set(maps.get("vips4", {})) | set(maps.get("vips6", {}))
        self.equal(where, "virtual addresses", guarded, set(wanted))
        routes = {r["dst"] for r in json.loads(local or "[]")}
        if set(wanted) - routes:
            self.differs(where, f"without a local route: {sorted(set(wanted) - routes)}")
        leading = {vip for vip, (_, backends) in wanted.items() if backends}
        # What a container began with it keeps, so it is each container's rules that say which it has.
        if "flows4" in maps:
            self.compare_ipvs(where, wanted, leading, maps, ipvs)
            return
        self.equal(where, "services of IPVS beside those of nftables", set(map(hex, ipvs)), set())
        led = {**maps.get("services4", {}), **maps.get("services6", {})}
        self.equal(where, "virtual addresses that lead somewhere", set(led), leading)
        for vip, chain in led.items():
            if vip in wanted:
                service, backends = wanted[vip]
                self.compare_slots(f"{where}, {service['Spec']['Name']} at {vip}", maps, uses, chain, backends)

    def compare_slots(self, where, maps, uses, chain, backends):
        slots = [value for name in uses.get(chain, ()) for value in maps.get(name, {}).values()]
        self.equal(where, "tasks that it leads to", set(slots), set(backends))
        if set(slots) != set(backends):
            return
        whole = sum(backends.values())
        for each, weight in backends.items():
            share = len(slots) * weight / whole
            if abs(slots.count(each) - share) >= 1:
                self.differs(where, f"{each} has {slots.count(each)} of {len(slots)} slots instead of {share:.1f}")

    def compare_ipvs(self, where, wanted, leading, maps, ipvs):
        """Every virtual address has a mark, by which one service gets its flows; the next one up gets its datagrams."""
        marks, flows, datagrams = ({vip: mark if isinstance(mark, int) else int(mark, 0)
                                    for vip, mark in {**maps.get(f"{of}4", {}), **maps.get(f"{of}6", {})}.items()}
                                   for of in ("marks", "flows", "datagrams"))
        self.equal(where, "virtual addresses with a mark", set(marks), set(wanted))
        self.equal(where, "marks that two addresses have", len(marks) - len(set(marks.values())), 0)
        unused = set(maps.get("unused4", {})) | set(maps.get("unused6", {}))
        self.equal(where, "addresses of none that are watched", unused - set(wanted), set())
        shall = {}
        for what, half, led in (("flows", 0, flows), ("datagrams", 1, datagrams)):
            self.equal(where, f"virtual addresses whose {what} lead somewhere", set(led), leading)
            for vip in leading & set(marks):
                service, backends = wanted[vip]
                name = f"{where}, {what} of {service['Spec']['Name']} at {vip}"
                mark = marks[vip] + half
                self.equal(name, "mark", led.get(vip), mark)
                shall[mark] = name
                if mark in ipvs:
                    scheduler, seconds = self.spreads(service)
                    self.equal(name, "scheduler", ipvs[mark][0], scheduler)
                    if ipvs[mark][1] not in [seconds * each for each in HZ]:
                        self.differs(name, f"clients are remembered for {ipvs[mark][1]} ticks instead of {seconds} s")
                    few = vip in unused and scheduler != "sh" and not any(ipvs[mark][3].values())
                    self.compare_shares(name, ipvs[mark][2], backends, few)
        self.equal(where, "services of IPVS", {f"{mark:x}" for mark in ipvs}, {f"{mark:x}" for mark in shall})

    def compare_shares(self, name, has, wanted, unused):
        """Of an address that nobody in the container has used yet, at least two will do."""
        if unused and has.items() <= wanted.items() and len(has) >= min(2, len(wanted)):
            return
        self.equal(name, "tasks and weights", has, wanted)

    def spreads(self, service):
        """Scheduler, and the seconds for which a client keeps its task."""
        endpoint = self.managers.endpoint(service["ID"])
        scheduler = {"least-connection": "wlc", "source-hash": "sh"}.get(endpoint.get("Balancing"), "wrr")
        return scheduler, -(-int(endpoint.get("Affinity") or 0) // 10**9)

    # ---------------------------------------------------------------- a node

    def compare_ports(self, node, instance, containers):
        where = f"node {self.number_of[node]}"
        table = "muster_" + re.sub("[^A-Za-z0-9]", "_", instance)
        listing, tables, links, listeners, *encryption = in_namespace(
            f"/run/netns/{self.prefix}-{self.number_of[node]}", f"nft -j list table inet {table}",
            "nft list tables", "ip -j link", "ss -Hltn", *encryption_truth.COMMANDS,
            f"nft list table inet esp_{table}")
        self.equal(where, "tables", set(tables.splitlines()),
                   {f"table inet {table}", f"table inet mesh_{table}"} | self.encryption.guard(node, table))
        self.encryption.compare_node(node, where, *encryption)
        self.compare_published(where, node, listing, listeners)
        links = json.loads(links)
        self.equal(where, "own interfaces in the mesh",
                   sum(each["ifname"].startswith("mi") for each in links), 1)
        # "muster INSTANCE CONTAINER ADDRESS"
        led = {each["ifalias"].split()[2] for each in links
               if each["ifname"].startswith(("mg", "mp")) and len(each.get("ifalias", "").split()) > 3}
        leads = {c for c, task in containers.items() if self.leads_out(task)}
        self.equal(where, "containers with a way out", led, leads)

    def compare_published(self, where, node, listing, listeners):
        """Which are led by rules and where, those in the node's name among them; which netd itself answers."""
        wanted, hidden, passed_on = {}, set(), set()
        for service in self.managers.services:
            for port in service.get("Endpoint", {}).get("Ports") or []:
                backends = self.managers.behind(service["ID"], self.ingress, node if port.get("Local") else None)
                if port["PublishMode"] != "ingress" or not backends:
                    continue
                bind, number = port.get("Bind", ""), port["PublishedPort"]
                if "ProxyProtocol" in port:
                    passed_on |= {listener(any_of, bind, number) for any_of in ("0.0.0.0", "[::]")}
                    continue
                suffix, key = port_key(bind, port["Protocol"], number)
                wanted[f"ports{suffix}", key] = backends
                if port.get("ClientAddress") == "masquerade":
                    hidden.add((f"masquerade{suffix or '_ports'}", key))
                if port["Protocol"] == "tcp" and bind in ("", "lo"):
                    passed_on.add(f"[::1]:{number}")
        maps, uses = read_maps(listing)

        def elements(of):
            return {(name, key): chain for name, each in maps.items() if name in of for key, chain in each.items()}

        led = elements([f"ports{suffix}" for suffix in PORT_MAPS])
        self.equal(where, "published ports", set(led), set(wanted))
        for key in set(led) & set(wanted):
            self.compare_slots(f"{where}, port {key[1]}", maps, uses, led[key], wanted[key])
        self.equal(where, "published ports in the node's name",
                   set(elements([f"masquerade{suffix or '_ports'}" for suffix in PORT_MAPS])), hidden)
        # What is held alone, so that no other program takes it, has a queue of 1; musterd's own are at "*".
        self.equal(where, "published ports that netd answers",
                   {here for _, _, queue, here, *_ in map(str.split, listeners.splitlines())
                    if int(queue) > 1 and not here.startswith("*")}, passed_on)

    def compare_names(self, node, containers, pins):
        """One container of each node is asked for all names of its networks, by dig."""
        container, task = next(iter(sorted(containers.items())), (None, None))
        if container is None:
            return
        wanted, questions = {}, []
        for service in self.managers.services:
            name = service["Spec"]["Name"]
            known = {x["Target"] for x in service["Spec"]["TaskTemplate"].get("Networks") or []}
            known.update(n for t in self.managers.tasks if t["service"] == service["ID"]
                         for n in t["networks"])
            # The first of the container's networks that knows the name answers.
            network = next((n for n in task["networks"] if n != self.ingress and n in known), None)
            if network is None:
                continue
            wanted[f"tasks.{name}."] = self.managers.addresses(service["ID"], network)
            wanted[f"{name}."] = {vip for vip, (of, _) in self.managers.vips().get(network, {}).items()
                                  if of is service} or wanted[f"tasks.{name}."]
            questions += [f"{name}. A", f"tasks.{name}. A"]
        if not questions:
            return
        said, = in_namespace(os.path.join(pins, container),
                             "dig +noall +answer +tries=2 +time=3 @127.0.0.11 " + " ".join(questions))
        has = {name: set() for name in wanted}
        for line in said.splitlines():
            words = line.split()
            if len(words) == 5 and words[3] == "A":
                has.setdefault(words[0], set()).add(words[4])
        for name in sorted(set(has) | set(wanted)):
            self.equal(f"node {self.number_of[node]}, names in {task['name']}", name,
                       has.get(name, set()), wanted.get(name, set()))

    def compare_node(self, node):
        number = self.number_of[node]
        where = f"node {number}"
        tasks = {t["id"]: t for t in self.managers.tasks if t["node"] == node}
        containers = {}
        for line in self.muster(number, "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}").splitlines():
            container, name = line.split()
            task = name.rsplit(".", 1)[1]
            if task in tasks:
                containers[container] = tasks[task]
            else:
                self.differs(where, f"a container of no task: {name}")
        self.equal(where, "containers", {t["id"] for t in containers.values()}, set(tasks))
        folder = f"{self.folder}/{number}"
        instance = next(d for d in os.listdir(folder) if os.path.isdir(f"{folder}/{d}/netns"))
        pins = f"{folder}/{instance}/netns"
        wanted = {}
        for network in self.managers.networks:
            here, far = self.members(network, node)
            if here:
                wanted[f"net-{network}"] = (network, here, far)
        self.equal(where, "namespaces", set(os.listdir(pins)), set(wanted) | set(containers))
        for name, (network, here, far) in wanted.items():
            if os.path.exists(f"{pins}/{name}"):
                self.compare_segment(node, network, f"{pins}/{name}", here, far)
        for container, task in containers.items():
            if os.path.exists(f"{pins}/{container}"):
                self.compare_container(task, container, f"{pins}/{container}")
        self.compare_ports(node, instance, containers)
        self.compare_names(node, containers, pins)

    def compare(self):
        self.differences += self.managers.unsettled
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            here = [i for i in self.managers.nodes if self.number_of[i] in self.numbers]
            for _ in pool.map(self.compare_node, here):
                pass
        self.encryption.compare()
        return self.differences


def main():
    folder, prefix, manager, *numbers = sys.argv[1:]
    try:
        found = Truth(folder, prefix, manager, numbers).compare()
    except (RuntimeError, OSError, KeyError, StopIteration, ValueError, subprocess.TimeoutExpired) as trouble:
        # Something went while it was looked at.
        found = [f"cannot compare: {type(trouble).__name__} {trouble}"]
    print("\n".join(found[:40]))


if __name__ == "__main__":
    main()
