#include "deploy/cli/commands.h"

#include "deploy/cli/lab_commands.h"

namespace muster::deploy::cli {

const std::vector<Command>& commands() {
  using C = Completes;
  static const std::vector<Command> kCommands = {
      {"swarm init", "", "Start a swarm with this node as its manager",
       "swarm init\nswarm init --advertise-addr eth0 --default-addr-pool 10.20.0.0/16", C::kNothing,
       swarm_init},
      {"swarm join", "HOST:PORT", "Join a swarm as a node",
       "swarm join --token SWMTKN-1-... 10.0.0.1:2377", C::kNothing, swarm_join},
      {"swarm join-token", "worker|manager", "Show how to join the swarm, or rotate the token",
       "swarm join-token worker\nswarm join-token --rotate manager", C::kNothing, swarm_join_token},
      {"swarm update", "", "Change the swarm's settings", "swarm update --task-history-limit 2",
       C::kNothing, swarm_update},
      {"swarm leave", "", "Leave the swarm", "swarm leave --force", C::kNothing, swarm_leave},
      {"swarm unlock", "", "Unlock a manager that was restarted", "swarm unlock", C::kNothing,
       swarm_unlock},
      {"swarm unlock-key", "", "Show the unlock key, or rotate it",
       "swarm unlock-key\nswarm unlock-key --rotate -q", C::kNothing, swarm_unlock_key},
      {"swarm ca", "", "Show the root certificate, or rotate it",
       "swarm ca\nswarm ca --rotate\nswarm ca --rotate --ca-cert root.pem --ca-key root.key",
       C::kNothing, swarm_ca},
      {"swarm backup", "FILE", "Write the swarm's whole state to an encrypted file",
       "swarm backup swarm.backup\nswarm backup --passphrase-file pass.txt swarm.backup", C::kFiles,
       swarm_backup},
      {"swarm restore", "FILE", "Make this node the only manager of a swarm from a backup",
       "swarm restore --advertise-addr 10.0.0.1 swarm.backup", C::kFiles, swarm_restore},

      {"client-cert create", "NAME", "Make a certificate to use the swarm with from elsewhere",
       "client-cert create --out ~/.muster alice\n"
       "client-cert create --days 1 --out ci-cert ci",
       C::kNothing, client_cert_create, false,
       "Writes ca.pem, cert.pem and key.pem into a directory; the key is made here. Whoever has "
       "them "
       "may do\n"
       "from elsewhere what a user on a manager may, but for what concerns that host alone, for\n"
       "backups and for more certificates:\n"
       "  muster --host tcp://MANAGER:2377 --tlscacert DIR/ca.pem --tlscert DIR/cert.pem \\\n"
       "    --tlskey DIR/key.pem node ls\n"
       "or MUSTER_HOST=tcp://MANAGER:2377 and MUSTER_CERT_PATH=DIR. It ends after --days (30), or "
       "with\n"
       "the next \"swarm ca --rotate\": a single one cannot be taken back."},

      {"service create", "IMAGE [COMMAND] [ARG...]", "Create a service",
       "service create --name web --replicas 3 -p 8080:80 nginx\n"
       "service create --mode global --network host busybox sleep 1d",
       C::kImage, service_create},
      {"service ls", "", "List services", "service ls\nservice ls -f label=tier=front -q",
       C::kNothing, service_ls},
      {"service ps", "SERVICE...", "List the tasks of services",
       "service ps web\nservice ps --filter desired-state=running --no-trunc web", C::kService,
       service_ps},
      {"service inspect", "SERVICE...", "Show services as JSON",
       "service inspect web\nservice inspect --pretty web\n"
       "service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Image}}' web",
       C::kService, service_inspect},
      {"service explain", "SERVICE", "Say why a service's tasks are where they are, or nowhere",
       "service explain web\nservice explain --format json web\n"
       "service explain -f '{{range .Nodes}}{{.Hostname}}: {{.Reason}}{{println}}{{end}}' web",
       C::kService, service_explain, false,
       "The first table has every node: how many tasks of the service it has, whether it would "
       "get\n"
       "one more, and if not, the first filter that turns it away, with the figures. The filters, "
       "in\n"
       "their order: ready, resource, plugin, constraint, platform, host-port, max-replicas, "
       "volume.\n"
       "The second has every task that is wanted: why it waits, what it replaces, or what the "
       "choice\n"
       "of its node was between. Nothing is moved for balance alone: \"service update --force\"\n"
       "spreads a service anew."},
      {"service update", "SERVICE", "Change a service",
       "service update --image nginx:1.25 web\nservice update --env-add DEBUG=1 --force web",
       C::kService, service_update},
      {"service scale", "SERVICE=REPLICAS...", "Set the number of replicas",
       "service scale web=5\nservice scale web=5 worker=10", C::kService, service_scale},
      {"service rollback", "SERVICE", "Go back to a service's previous configuration",
       "service rollback web", C::kService, service_rollback},
      {"service logs", "SERVICE|TASK...", "Show the logs of services or tasks, from all nodes",
       "service logs -f web\nservice logs --tail 20 -t web worker", C::kService, service_logs},
      {"service rm", "SERVICE...", "Remove services", "service rm web worker", C::kService,
       service_rm},

      {"stack deploy", "STACK", "Create or update a stack from Compose files",
       "stack deploy -c compose.yml shop\n"
       "stack deploy -c compose.yml -c production.yml --prune shop\n"
       "cat compose.yml | muster stack deploy -c - shop",
       C::kStack, stack_deploy},
      {"stack ls", "", "List stacks", "stack ls", C::kNothing, stack_ls},
      {"stack ps", "STACK", "List the tasks of a stack", "stack ps shop", C::kStack, stack_ps},
      {"stack services", "STACK", "List the services of a stack", "stack services shop", C::kStack,
       stack_services},
      {"stack logs", "STACK [SERVICE...]", "Show the logs of a stack, from all nodes",
       "stack logs -f shop\nstack logs --since 10m shop web", C::kStack, stack_logs},
      {"stack rm", "STACK...", "Remove stacks", "stack rm shop", C::kStack, stack_rm},
      {"stack config", "", "Print the merged Compose document", "stack config -c compose.yml",
       C::kFiles, stack_config},

      {"node ls", "", "List nodes", "node ls\nnode ls -f role=manager", C::kNothing, node_ls},
      {"node inspect", "self|NODE...", "Show nodes as JSON", "node inspect self --pretty", C::kNode,
       node_inspect},
      {"node ps", "[NODE...]", "List the tasks on nodes (default: this one)", "node ps", C::kNode,
       node_ps},
      {"node update", "NODE", "Change a node's role, availability or labels",
       "node update --availability drain worker1\nnode update --label-add zone=a worker1", C::kNode,
       node_update},
      {"node promote", "NODE...", "Make nodes managers", "node promote worker1", C::kNode,
       node_promote},
      {"node demote", "NODE...", "Make managers plain workers", "node demote manager2", C::kNode,
       node_demote},
      {"node rm", "NODE...", "Remove nodes from the swarm",
       "node rm old-node\nnode rm --force lost-node", C::kNode, node_rm},

      {"task ls", "", "List the tasks of the whole swarm", "task ls", C::kNothing, task_ls},
      {"task inspect", "TASK...", "Show tasks as JSON", "task inspect 3f2k", C::kTask,
       task_inspect},

      {"network ls", "", "List networks", "network ls", C::kNothing, network_ls},
      {"network create", "NETWORK", "Create a network",
       "network create back\nnetwork create --subnet 10.9.0.0/24 --internal db", C::kNothing,
       network_create},
      {"network inspect", "NETWORK...", "Show networks as JSON", "network inspect back",
       C::kNetwork, network_inspect},
      {"network doctor", "[NETWORK...]", "Test networks from every node to every other",
       "network doctor\n"
       "network doctor --timeout 30s back\n"
       "network doctor --json | jq -r 'select(.Verdict == \"bad\") | .Text'",
       C::kNetwork, network_doctor, false,
       "All nodes examine their networks at the same time, traffic goes on meanwhile: whether\n"
       "frames of overlay networks, small ones and those of full size, get from every node to\n"
       "every other (checks vxlan and mtu); whether the kernel has what the managers say\n"
       "(neighbours; what differs is mended at once, and told); whether names are answered (dns),\n"
       "virtual addresses (vip) and published ports (mesh) lead to tasks, encrypted networks can\n"
       "be (encryption), and clocks agree (clock). Without NETWORK all overlay networks are "
       "meant.\n"
       "\n"
       "bad: it does not work; what it probably means is said. warning: it works, but not as it\n"
       "should. What is good is counted, --all lists it. Exit code: 0 nothing is bad, 1 something\n"
       "is, or a node did not answer."},
      {"network rm", "NETWORK...", "Remove networks", "network rm back", C::kNetwork, network_rm},
      {"network update", "NETWORK",
       "Make a network larger while it is in use, or change its labels",
       "network update --subnet 10.9.1.0/24 back\n"
       "network update --subnet 10.9.2.0/24 --ip-range 10.9.2.128/25 --gateway 10.9.2.254 back\n"
       "network update --label-add team=shop --label-rm old back",
       C::kNetwork, network_update, false,
       "An overlay network whose addresses are all in use gets further subnets; tasks that waited\n"
       "for an address start at once. Containers that run reach the new addresses directly and\n"
       "keep their own. A subnet cannot be taken away again, nor overlap another network's."},
      {"network connect", "NETWORK TASK|CONTAINER",
       "Connect a running container to an attachable network",
       "network connect debug web.1\n"
       "network connect --alias primary --ip 10.9.0.50 back 3f2k9x",
       C::kNetwork, network_connect, false,
       "The container gets one more interface while it runs, and is known in the network by its\n"
       "task's and container's name, its service's name and each --alias. The network must have\n"
       "been made with --attachable. The connection is this task's alone: the one that replaces\n"
       "it is in its service's networks only. For all tasks of a service use\n"
       "`muster service update --network-add`."},
      {"network disconnect", "NETWORK TASK|CONTAINER",
       "Take a running container out of a network it was connected to",
       "network disconnect debug web.1", C::kNetwork, network_disconnect, false,
       "Networks of the service itself are left with `muster service update --network-rm`."},

      {"secret create", "SECRET file|-", "Create a secret from a file or standard input",
       "secret create db_password password.txt\n"
       "printf %s \"$PASSWORD\" | muster secret create -l tier=db db_password -\n"
       "secret create --template-driver golang app.conf app.conf.tmpl",
       C::kFiles, secret_create},
      {"secret ls", "", "List secrets", "secret ls\nsecret ls -f label=tier=db -q", C::kNothing,
       secret_ls},
      {"secret inspect", "SECRET...", "Show secrets as JSON, without their data",
       "secret inspect --pretty db_password", C::kSecret, secret_inspect},
      {"secret rm", "SECRET...", "Remove secrets", "secret rm db_password", C::kSecret, secret_rm},

      {"config create", "CONFIG file|-", "Create a config from a file or standard input",
       "config create nginx.conf ./nginx.conf\nconfig create --template-driver golang site "
       "site.tmpl",
       C::kFiles, config_create},
      {"config ls", "", "List configs", "config ls\nconfig ls -f name=nginx", C::kNothing,
       config_ls},
      {"config inspect", "CONFIG...", "Show configs as JSON, with their data in base64",
       "config inspect --pretty nginx.conf", C::kConfig, config_inspect},
      {"config rm", "CONFIG...", "Remove configs", "config rm nginx.conf", C::kConfig, config_rm},

      {"image ls", "[REPOSITORY[:TAG]]", "List this node's images", "image ls", C::kImage,
       image_ls},
      {"image pull", "IMAGE", "Fetch an image from a registry",
       "image pull registry.example.com/team/app:1.4", C::kImage, image_pull},
      {"image load", "", "Take images from an archive",
       "image load -i app.tar\nimage load < app.tar", C::kFiles, image_load},
      {"image rm", "IMAGE...", "Remove images from this node", "image rm app:1.4", C::kImage,
       image_rm},
      {"image prune", "", "Remove unused images", "image prune -a -f", C::kNothing, image_prune},

      {"volume ls", "", "List this node's volumes", "volume ls", C::kNothing, volume_ls},
      {"volume create", "[VOLUME]", "Create a volume", "volume create data", C::kNothing,
       volume_create},
      {"volume inspect", "VOLUME...", "Show volumes as JSON", "volume inspect data", C::kVolume,
       volume_inspect},
      {"volume rm", "VOLUME...", "Remove volumes", "volume rm data", C::kVolume, volume_rm},
      {"volume prune", "", "Remove unused volumes", "volume prune -f", C::kNothing, volume_prune},

      {"ps", "", "List this node's containers", "ps\nps -a --format '{{.Names}} {{.Status}}'",
       C::kNothing, container_ps},
      {"exec", "CONTAINER COMMAND [ARG...]", "Run a command in a container of this node",
       "exec -it web.1 sh\nexec web.1 cat /etc/hosts", C::kContainer, container_exec},
      {"logs", "CONTAINER|SERVICE|TASK", "Show the logs of this node's containers",
       "logs -f --tail 10 web.1", C::kContainer, logs},
      {"stats", "[CONTAINER...]", "Show the resources this node's containers use",
       "stats\nstats --no-stream web.1", C::kContainer, container_stats},
      {"events", "", "Show what changes in the swarm",
       "events --filter type=service\nevents --since 10m --until 0s --format json", C::kNothing,
       events},
      {"info", "", "Show this node and its swarm", "info\ninfo -f '{{.Swarm.LocalNodeState}}'",
       C::kNothing, info},
      {"version", "", "Show the versions of muster and musterd", "version", C::kNothing, version},
      {"lab up", "", "Start a cluster of several nodes on this machine",
       "lab up\n"
       "lab up --managers 3 --workers 2\n"
       "lab up --name other --managers 3 --nat",
       C::kNothing, lab_up, false,
       "Every node is a musterd in namespaces of its own: network, host name, processes, mounts.\n"
       "A bridge joins them, in a subnet that this host reaches, and a registry serves images to\n"
       "all of them. The nodes are named manager1, manager2, ... and worker1, worker2, ...; they\n"
       "find one another by these names, and the registry as registry:5000. The command returns\n"
       "when every node is ready. A lab lives until \"lab down\" or the next reboot."},
      {"lab ls", "", "List the nodes of labs, and how they are",
       "lab ls\nlab ls --name other --format '{{.Node}} {{.Socket}}'", C::kNothing, lab_ls, false,
       "States: running; paused; killed and stopped by a command; ended by itself, for the reason\n"
       "in \"lab logs\"; off when nothing of the node runs."},
      {"lab ssh", "NODE [COMMAND] [ARG...]", "Open a shell on a node, or run a command there",
       "lab ssh manager1\n"
       "lab ssh worker1 muster ps\n"
       "lab ssh manager2 curl -s http://worker1:8080/",
       C::kNothing, lab_ssh, false,
       "\"muster\" talks to the node's own musterd there. Options go before the node's name."},
      {"lab kill", "NODE...", "Kill the musterd of nodes (SIGKILL)",
       "lab kill manager1\nlab kill --all-processes worker1", C::kNothing, lab_kill, false,
       "Its containers keep running, as on a real host. With --all-processes the node is as if "
       "its\n"
       "power had failed. \"lab start\" brings it back."},
      {"lab stop", "NODE...", "Stop the musterd of nodes in good order (SIGTERM)",
       "lab stop manager1", C::kNothing, lab_stop},
      {"lab start", "[NODE...]", "Start nodes that were killed or stopped (default: all)",
       "lab start manager1\nlab start", C::kNothing, lab_start},
      {"lab pause", "NODE...", "Freeze the musterd of nodes (SIGSTOP)", "lab pause manager1",
       C::kNothing, lab_pause},
      {"lab resume", "NODE...", "Let paused nodes go on (SIGCONT)", "lab resume manager1",
       C::kNothing, lab_resume},
      {"lab partition", "NODE[,NODE...] [NODE[,NODE...]]", "Cut nodes off from one another",
       "lab partition manager1\n"
       "lab partition manager1,worker1 manager2,manager3\n"
       "lab partition --one-way manager1 manager2\n"
       "lab partition --refuse worker1 registry",
       C::kNothing, lab_partition, false,
       "Every node of the first group loses every node of the second; without a second group, all\n"
       "other nodes, but not the registry. Packets vanish, or are refused. Cuts add up, and last\n"
       "until \"lab heal\"."},
      {"lab heal", "[NODE[,NODE...] [NODE[,NODE...]]]", "Undo cuts: all of them, or some",
       "lab heal\nlab heal manager1\nlab heal manager1 manager2,manager3", C::kNothing, lab_heal},
      {"lab logs", "NODE", "Show the log of a node's musterd, or of the registry",
       "lab logs -f manager1\nlab logs -n 20 registry", C::kNothing, lab_logs},
      {"lab down", "", "Remove a lab with all that is of it",
       "lab down\nlab down --name other\nlab down --all", C::kNothing, lab_down, false,
       "Nothing is left: processes, interfaces, rules, cgroups, files. It works on what was "
       "killed\n"
       "or is half made just as well, and can be repeated."},
      {"lab init-node", "LAB-DIR NODE", "Be the first process of a node", "", C::kNothing,
       lab_init_node, true},
      {"debug eval", "SUITE", "Run a pure part of muster on a JSON case",
       "debug eval constraint < case.json", C::kNothing, debug_eval},
      {"debug raft-log", "", "Show a stopped manager's Raft log: term, members, snapshots, entries",
       "debug raft-log\ndebug raft-log --data-dir /backup/muster --from 100 --json", C::kNothing,
       debug_raft_log},
      {"completion", "bash|zsh", "Print the shell's completion script",
       "completion bash > /etc/bash_completion.d/muster", C::kNothing, completion},
      {"__complete", "[WORD...]", "Print completions of the last word", "", C::kNothing, complete,
       true},
  };
  return kCommands;
}

}  // namespace muster::deploy::cli
