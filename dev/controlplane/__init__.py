"""A real etcd and kube-apiserver on 127.0.0.1, for the tests, the demo and the benchmarks.

`python -m dev.controlplane up --dir D` runs one in the foreground; `ControlPlane` is the same from
Python. There is no controller-manager, scheduler or kubelet: nothing collects garbage, finishes the
deletion of a namespace or runs a pod.
"""
