"""The measure of all consumers: reads a topic with confluent-kafka and throws away what it read.

Says `ready` when it has its partitions, and `read N` when it has read the topic so many times over. Then it waits to be
killed, so that its CPU time can be looked up.
"""

from __future__ import annotations

import argparse
import signal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bare")
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--records", type=int, required=True, help="in the topic; 0: wait after `ready`")
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    places: list[TopicPartition] = []

    def on_assign(_: Consumer, assigned: list[TopicPartition]) -> None:
        places.extend(TopicPartition(place.topic, place.partition, OFFSET_BEGINNING) for place in assigned)
        print("ready", flush=True)

    consumer = Consumer(
        {
            "bootstrap.servers": options.brokers,
            "group.id": options.group,
            "session.timeout.ms": 6000,
            "fetch.wait.max.ms": 20,  # only at the end of a partition does a fetch wait, and the next reading with it
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([options.topic], on_assign=on_assign)
    read = 0
    while not places:
        read += _consume(consumer)
    if options.records:
        for _ in range(options.times):
            while read < options.records:
                read += _consume(consumer)
            read = 0
            for place in places:
                consumer.seek(place)
        print(f"read {options.times * options.records}", flush=True)
    while True:
        signal.pause()


def _consume(consumer: Consumer) -> int:
    messages = consumer.consume(500, 0.1)
    for message in messages[:1]:
        if error := message.error():
            raise KafkaException(error)
    return len(messages)


if __name__ == "__main__":
    main()
