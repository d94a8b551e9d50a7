"""`python -m tests.kube.apiserver` builds it."""

from tests.kube.apiserver import binary, etcd

if __name__ == "__main__":
    print(binary(), etcd())
