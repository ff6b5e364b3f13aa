"""A real etcd and kube-apiserver on 127.0.0.1, for the tests, the demo and the benchmarks.

`python -m dev.controlplane up --dir D` runs them in the foreground; in Python, use `ControlPlane`.
There is no controller-manager, scheduler or kubelet, so nothing collects garbage, finishes the
deletion of a namespace or runs a Pod.
"""
