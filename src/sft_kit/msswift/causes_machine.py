"""Why ms-swift failed, where the machine is at fault: memory, GPU and driver, disk, network, killed processes.

A table, the special before the general: of several that fit an exception, or the exceptions that it comes from, the
first is the cause. Beside each stands where its message is made, or a thread that quotes it.
"""

from __future__ import annotations

import re
import signal

from sft_kit.msswift.cause import cause

_LESS_MEMORY = (
    "lower max_length or per_device_train_batch_size, set gradient_checkpointing: true, or use a smaller model"
)
_HARDWARE = "run again; if it comes back: `nvidia-smi -q`, `dmesg | grep -i xid`, another card, power and cooling"
_NETWORK = r"requests|httpx|urllib3|huggingface_hub|modelscope|aiohttp"  # who calls a hub
_ROOM = "make room, lower save_total_limit, set save_only_model: true, or give another output_dir"

MACHINE = (
    # Memory. torch: c10/cuda/CUDACachingAllocator.cpp, aten/src/ATen/cuda/CUDABlas.cpp; ms-swift #5943
    cause(
        "gpu-out-of-memory",
        r"OutOfMemoryError\b(?!.*\bMPS\b)(?:.*Tried to allocate (?P<size>[\d.]+ \w+))?"
        r"|CUDA (?:error: )?out of memory|CU(?:BLAS|DNN|SPARSE)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
        r"|CUDA error: out of memory",
        "the GPU is full",
        f"{_LESS_MEMORY} (quant_method: bnb with quant_bits: 4 takes a quarter); `nvidia-smi` shows who else is on it",
    ),
    # torch: c10/core/impl/alloc_cpu.cpp; numpy, pyarrow and Python end in MemoryError
    cause(
        "out-of-memory",
        r"DefaultCPUAllocator: (?:can't|not enough)|^(?:[\w.]+\.)?\w*MemoryError\b|\[Errno 12\]|std::bad_alloc"
        r"|ArrowMemoryError|Cannot allocate memory \(os error 12\)",
        "the memory of the machine is full",
        f"{_LESS_MEMORY}; close other programs, lower dataset_num_proc and dataloader_num_workers",
    ),
    # Disk. Python's OSError; safetensors_rust; torch: caffe2/serialize/inline_container.cc (torch.save)
    cause(
        "disk-full",
        r"\[Errno (?:28|122)\]|No space left on device|\(os error (?:28|122)\)|Disk quota exceeded",
        "the disk is full",
        _ROOM,
    ),
    cause(
        "disk-full",
        r"unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing file|basic_ios::clear: iostream error",
        "the disk is full",
        _ROOM,
    ),
    cause(
        "file-too-large",
        r"\[Errno 27\]|\(os error 27\)|File too large",
        "a file would be larger than it may be here",
        "raise the limit (`ulimit -f unlimited`) or write to another file system",
    ),
    cause(
        "read-only",
        r"\[Errno 30\] Read-only file system(?:: '(?P<path>[^']+)')?|\(os error 30\)",
        "the file system is read-only {path}",
        "give another output_dir, or set HF_HOME and MODELSCOPE_CACHE to a folder that can be written",
    ),
    cause(
        "disk-error",
        r"\[Errno (?:5|116)\]|Input/output error|\(os error 5\)|Stale file handle",
        "the disk, or the network drive, gave an error",
        "see `dmesg`; write to another disk",
    ),
    cause(
        "too-many-open-files",
        r"\[Errno 24\]|Too many open files|received 0 items of ancdata",
        "too many files are open",
        "raise the limit (`ulimit -n 65535`), or lower dataloader_num_workers and dataset_num_proc",
    ),
    cause(
        "permission-denied",
        r"\[Errno 1?3\] (?:Permission denied|Operation not permitted)(?:: '(?P<path>[^']+)')?|\(os error 13\)",
        "no permission to use {path}",
        "give another output_dir, or correct the owner (`ls -ld` on it); a cache made by root is root's",
    ),
    # Data loading. torch/utils/data/_utils/signal_handling.py, DataLoader.cpp; datasets/utils/py_utils.py
    cause(
        "shared-memory",
        r"insufficient shared memory|is killed by signal: Bus error|unable to (?:open|resize|mmap) .*shared memory",
        "the shared memory (/dev/shm) is too small for the data loader",
        "start the container with --shm-size=16g, or set dataloader_num_workers: 0",
    ),
    cause(
        "loader-killed",
        r"DataLoader worker \(pid (?P<pid>\d+)\) is killed by signal: (?P<signal>\w[\w ]*)"
        r"|DataLoader worker \(pid\(s\) .*exited unexpectedly",
        "a data loading process was killed: {signal}",
        "most often memory was full: lower dataloader_num_workers (0 loads in the trainer itself)",
    ),
    cause(
        "loader-killed",
        r"One of the subprocesses has abruptly died during map operation",
        "a process that tokenized the data was killed",
        "most often memory was full: lower dataset_num_proc (1 does it in one process)",
    ),
    # Driver and card. torch/csrc/cuda/Module.cpp, c10/cuda/CUDAFunctions.cpp; pytorch #150733, #100691
    cause(
        "driver-too-old",
        r"NVIDIA driver on your system is too old \(found version"
        r"|driver version is insufficient for CUDA runtime",
        "the NVIDIA driver is too old for this torch",
        "update the driver, or install a torch that is built for an older CUDA (`nvidia-smi` shows the highest it can)",
    ),
    cause(
        "no-driver",
        r"Found no NVIDIA driver|CUDA driver initialization failed|CUDA unknown error - this may be due to",
        "torch finds no working NVIDIA driver",
        "try `nvidia-smi`; in a container start it with --gpus all; after an update of the driver restart the machine",
    ),
    cause(
        "torch-without-cuda",
        r"Torch not compiled with CUDA enabled",
        "this torch is built without CUDA",
        "install a torch with CUDA, or set launch: {{gpus: 0}} and torch_dtype: float32 for a CPU",
    ),
    cause(
        "no-gpu",
        r"No CUDA GPUs are available|no CUDA-capable device is detected|invalid device ordinal|Invalid device id",
        "torch does not see the GPU that was asked for",
        "see CUDA_VISIBLE_DEVICES and `nvidia-smi`; lower launch: {{gpus: N}}, or gpus: 0 for a CPU",
    ),
    cause(
        "gpu-not-supported",
        r"no kernel image is available|is not compatible with the current PyTorch installation"
        r"|cudaErrorNoKernelImageForDevice",
        "this torch, or a package beside it, has no code for this card",
        "install a torch for it (RTX 50, sm_120: 2.7 or later with CUDA 12.8), then flash-attn, bitsandbytes and "
        "others again",
    ),
    cause(
        "gpu-busy",
        r"devices?(?:\(s\))? (?:is/)?are busy or unavailable|cudaErrorDevicesUnavailable",
        "another program holds the GPU for itself",
        "end it (`nvidia-smi`), or wait; `nvidia-smi -c 0` as root allows several programs again",
    ),
    cause(
        "gpu-lost",
        r"fallen off the bus|GPU is lost|Unable to determine the device handle|\bXid\b.*: 79,|cudaErrorUnknown"
        r"|CUDA error: unknown error",
        "the machine lost the GPU",
        "restart the machine; then power cables, cooling and `dmesg | grep -i xid`",
    ),
    cause(
        "gpu-memory-error",
        r"uncorrectable ECC error|cudaErrorECCUncorrectable",
        "the memory of the GPU has a hardware error",
        _HARDWARE,
    ),
    # An id beyond the embeddings or the logits. aten/src/ATen/native/cuda/{Indexing,NLLLoss2d,Loss}.cu; peft #441
    cause(
        "token-out-of-range",
        r"Assertion `.*(?:srcIndex < srcSelectDimSize|index out of bounds|< n_classes|ind >= 0"
        r"|index >= -sizes).*` failed|^IndexError: index out of range in self"
        r"|^IndexError: Target -?\d+ is out of bounds",
        "a token id is not in the model's vocabulary",
        "the tokenizer does not belong to the model: take tokenizer and weights from one place; "
        "`new_special_tokens` need an enlarged model",
    ),
    cause(
        "device-side-assert",
        r"device-side assert triggered|cudaErrorAssert",
        "a check on the GPU failed, most often an id outside of the model's vocabulary",
        "run once more with CUDA_LAUNCH_BLOCKING=1, or one step with launch: {{gpus: 0}}: the trace then names the "
        "true line",
    ),
    cause(
        "illegal-memory-access",
        r"an illegal memory access was encountered|misaligned address|cudaErrorIllegalAddress",
        "a GPU kernel read or wrote outside of its memory",
        "set attn_impl: sdpa, use_liger_kernel: false; bring torch, flash-attn and bitsandbytes up to date; "
        "CUDA_LAUNCH_BLOCKING=1 names the kernel",
    ),
    cause(
        "gpu-failure",
        r"unspecified launch failure|an illegal instruction was encountered|cudaErrorLaunchFailure|launch timed out"
        r"|hardware stack error",
        "the GPU stopped in the middle of a computation",
        _HARDWARE,
    ),
    cause(
        "cublas-failed",
        r"CUBLAS_STATUS_(?P<status>\w+)",
        "cuBLAS failed ({status}): the GPU is full, or an id is outside of the model's vocabulary",
        "lower per_device_train_batch_size; run once with CUDA_LAUNCH_BLOCKING=1 or launch: {{gpus: 0}}; see that "
        "LD_LIBRARY_PATH brings no other CUDA",
    ),
    cause(
        "cudnn-failed",
        r"(?:cuDNN error: )?CUDNN_STATUS_(?P<status>\w+)|cuDNN error|Unable to (?:find a valid cuDNN|find an engine"
        r"|load any of \{?libcudnn)|libcudnn\S* .*cannot open",
        "cuDNN failed: {status}",
        "unset LD_LIBRARY_PATH (another cuDNN comes first), or lower per_device_train_batch_size",
    ),
    # Several GPUs. torch: torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp, NCCLUtils.cpp; nccl #207, vllm #10523
    cause(
        "duplicate-gpu",
        r"Duplicate GPU detected",
        "two processes were given the same GPU",
        "set launch: {{gpus: N}} to the GPUs there are; see CUDA_VISIBLE_DEVICES",
    ),
    cause(
        "nccl-timeout",
        r"Watchdog caught collective operation timeout|NCCL watchdog .*time(?:d )?out"
        r"|Some NCCL operations have failed or timed out",
        "the GPUs waited for each other in vain: one process hangs, is slow, or is gone",
        "find the rank that is missing in the log; raise ddp_timeout (seconds) where saving or evaluation takes "
        "long; try NCCL_P2P_DISABLE=1",
        consequence=True,
    ),
    cause(
        "nccl-network",
        r"socket(?:StartConnect|PollConnect|ProgressOpt|Recv|Send)\b.*(?:No route|refused|failed|timed out)"
        r"|Bootstrap : no socket interface|ncclRemoteError|client socket has (?:timed out|failed)",
        "the GPUs cannot reach each other over the network",
        "set NCCL_SOCKET_IFNAME to the interface that joins the machines (`ip addr`); open the firewall; "
        "NCCL_IB_DISABLE=1 without InfiniBand",
    ),
    cause(
        "nccl-failed",
        r"ncclSystemError|ncclUnhandledCudaError|ncclInternalError|ncclInvalid\w+|unhandled (?:system|cuda) error"
        r"|NCCL error",
        "the exchange between the GPUs (NCCL) failed",
        "run once with NCCL_DEBUG=INFO; in a container use --shm-size=16g --ipc=host; try NCCL_P2P_DISABLE=1",
    ),
    cause(
        "rank-gone",
        r"Connection closed by peer|Connection reset by peer|remote process exited|communicator was aborted"
        r"|Broken pipe|recvValue failed|Failed to recv, got 0 bytes",
        "another process of the run is gone",
        "look for the first error in the log",
        consequence=True,
    ),
    cause(
        "port-taken",
        r"EADDRINUSE|[Aa]ddress already in use|\[Errno 98\]",
        "the port is taken by another program",
        "another run on this machine? set MASTER_PORT (or --port when serving) to a free one, or end it",
    ),
    # Hubs. huggingface_hub/utils/_http.py, errors.py; modelscope/hub/errors.py; requests, httpx, urllib3
    cause(
        "hub-gated",
        r"GatedRepoError|trying to access a gated repo|is restricted and you are not in the auth|awaiting a review",
        "the licence of this model has to be accepted first",
        "accept it on the model's page, then set HF_TOKEN to a token of that account",
    ),
    cause(
        "hub-unauthorized",
        r"\b401\b(?: Client Error|.*Unauthorized)|Invalid (?:user token|username or password|credentials)|InvalidToken"
        r"|token is (?:not valid|invalid|expired)",
        "the hub wants a valid login for this, or there is no such model",
        "see the spelling of the id; for a private model set HF_TOKEN or MODELSCOPE_API_TOKEN",
    ),
    cause(
        "hub-not-found",
        r"RepositoryNotFoundError|RevisionNotFoundError|EntryNotFoundError: 404|NotExistError|DatasetNotFoundError"
        r"|Repository .*not exists",
        "the hub has no such model, data set or file",
        "see the id and the hub (use_hf: true or false); a local folder needs a path that exists",
    ),
    cause(
        "hub-not-found",
        r"\b404 Client Error|is not a valid model identifier",
        "the hub has no such model, data set or file",
        "see the id and the hub (use_hf: true or false); a local folder needs a path that exists",
    ),
    cause(
        "hub-gated",
        r"403 (?:Client Error|Forbidden)",
        "the hub refuses this model or data set to this account",
        "accept its licence on its page, then set HF_TOKEN to a token of that account",
    ),
    cause(
        "hub-busy",
        r"\b(?:429|50[0234])\b(?: (?:Client|Server) Error|.*(?:Too Many Requests|Bad Gateway|Service Unavailable"
        r"|Gateway Time))",
        "the hub is overloaded, or counts too many requests",
        "wait and start again: what is loaded stays; a token raises the limit",
    ),
    cause(
        "hub-proxy",
        r"ProxyError|Cannot connect to proxy|Missing dependencies for SOCKS|'socksio' package|Unknown scheme for proxy",
        "the proxy cannot be used",
        'see http_proxy, https_proxy and ALL_PROXY; a SOCKS proxy needs `pip install "httpx[socks]" PySocks`',
    ),
    cause(
        "hub-proxy",
        r"Connect(?:ion)?(?:Refused)?Error|ConnectTimeout",
        "the proxy cannot be used",
        'see http_proxy, https_proxy and ALL_PROXY; a SOCKS proxy needs `pip install "httpx[socks]" PySocks`',
        where=r"httpcore/_sync/\w+_proxy\.py",
    ),
    cause(
        "hub-certificate",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError|SSL: |_ssl\.c:",
        "the hub's certificate is not trusted here",
        "behind a company proxy set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to its certificate; see the clock (`date`)",
    ),
    cause(
        "hub-offline",
        r"OfflineModeIsEnabled|[Oo]ffline mode is enabled|HF_HUB_OFFLINE|outgoing traffic has been disabled",
        "it is not in the cache, and downloads are switched off",
        "unset HF_HUB_OFFLINE, download it once where there is a network, or give the path of a local copy",
    ),
    cause(
        "hub-timeout",
        r"ReadTimeout|ConnectTimeout|Read timed out|timed out|TimeoutError|IncompleteRead|ChunkedEncodingError"
        r"|RemoteProtocolError|Consistency check failed",
        "the connection to the hub broke off",
        "start again: what is loaded stays; HF_HUB_DOWNLOAD_TIMEOUT=60 waits longer; for Hugging Face in China set "
        "HF_ENDPOINT to a mirror",
        where=_NETWORK,
    ),
    cause(
        "hub-unreachable",
        r"MaxRetryError|NameResolutionError|Name or service not known|Temporary failure in name resolution"
        r"|Failed to resolve|Network is unreachable|Max retries exceeded|(?:requests|httpx"
        r"|aiohttp)\S*\.Connect\w*Error|\[Errno (?:101|111|113)\]|ConnectError",
        "the hub cannot be reached",
        "see the network and the proxy; use_hf: false takes ModelScope; or give the path of a local copy of the "
        "model or data",
        where=_NETWORK,
    ),
    cause(
        "hub-offline",
        r"LocalEntryNotFoundError|couldn't connect to|local_files_only",
        "it is not in the cache, and cannot be downloaded",
        "see the network; download it once where there is one, or give the path of a local copy",
    ),
)

# Without an exception: what torch, NCCL, glibc and Python print themselves, at the beginning of a line.
NATIVE = re.compile(
    r"^\S*\.cu:\d+: .*Assertion `.*` failed\.?$"  # aten/src/ATen/native/cuda/*.cu
    r"|^ERROR: Unexpected bus error encountered in worker"  # torch/csrc/DataLoader.cpp
    r"|^(?:\[rank\d+\]:)?\[E[^\]]*ProcessGroupNCCL\.cpp:\d+\] "  # ProcessGroupNCCL.cpp
    r"|^terminate called after throwing an instance of|^\s+what\(\):  "  # libstdc++
    r"|^Fatal Python error: |^NVRM: Xid "  # Python/pylifecycle.c; the driver, where its words are in the log
)

_RESUME = "`sft-kit train --resume` goes on from the last checkpoint"
_FAULT_HANDLER = "run once with PYTHONFAULTHANDLER=1: the log then names the line"

SIGNALS: dict[int, tuple[str, str, str]] = {
    signal.SIGKILL: (
        "killed",
        "the system, a person or a batch scheduler killed it (SIGKILL)",
        "`dmesg | grep -i oom` tells whether memory was full; see the limits of the container or the job",
    ),
    signal.SIGSEGV: (
        "segmentation-fault",
        "it crashed in native code (SIGSEGV)",
        f"{_FAULT_HANDLER}; often flash-attn, bitsandbytes or deepspeed was built for another torch",
    ),
    signal.SIGBUS: (
        "bus-error",
        "it used memory that is not there (SIGBUS): /dev/shm or the disk is full, or a file was cut while in use",
        "start the container with --shm-size=16g, make room, set dataloader_num_workers: 0",
    ),
    signal.SIGILL: (
        "illegal-instruction",
        "a package uses instructions that this processor does not have (SIGILL)",
        f"{_FAULT_HANDLER}; install a build of that package for this processor",
    ),
    signal.SIGABRT: ("aborted", "native code gave up (SIGABRT)", _FAULT_HANDLER),
    signal.SIGFPE: ("arithmetic-fault", "native code divided by zero (SIGFPE)", _FAULT_HANDLER),
    signal.SIGINT: ("interrupted", "it was interrupted (SIGINT, Ctrl-C)", _RESUME),
    signal.SIGTERM: ("stopped", "it was told to end (SIGTERM): by a batch scheduler, or a person", _RESUME),
    signal.SIGHUP: ("stopped", "its terminal was closed (SIGHUP)", f"use tmux or nohup; {_RESUME}"),
    signal.SIGXCPU: ("stopped", "its CPU time ran out (SIGXCPU)", "raise the limit: ulimit -t unlimited"),
    signal.SIGXFSZ: ("file-too-large", "a file would be larger than it may be here (SIGXFSZ)", "ulimit -f unlimited"),
}
"""What a signal alone says, where the log says nothing: code, cause, fix."""
