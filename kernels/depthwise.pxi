# Depthwise convolution.


cdef class DepthwiseCall


@cython.final
cdef class Depthwise:
    """A depthwise convolution, plane by plane.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (outputs, height, width)
        Output o reads channel o // (outputs / channels).
    bias, slope : float32 ndarray of shape (outputs,); either may be None
    stride, dilation, pad : (int, int)
        The input's planes hold the padding as their halo; negative: pixels that no tap reads.
    low, high : float
        Clamp of the result.
    """

    cdef scnn_dwconv_fn kernel
    cdef scnn_dwconv geometry
    cdef const float[:, :, ::1] weights
    cdef const float[::1] bias, slope
    cdef int pad_h, pad_w, lanes

    def __init__(self, str isa, const float[:, :, ::1] weights not None, const float[::1] bias,
                 const float[::1] slope, stride, dilation, pad, float low, float high):
        cdef const scnn_kernel *kernel = find("dwconv", isa)
        self.kernel, self.lanes = <scnn_dwconv_fn>kernel.run, kernel.lanes
        self.weights, self.bias, self.slope = weights, bias, slope
        self.geometry.kernel_h, self.geometry.kernel_w = weights.shape[1], weights.shape[2]
        self.geometry.stride_h, self.geometry.stride_w = stride
        self.geometry.dilation_h, self.geometry.dilation_w = dilation
        self.geometry.low, self.geometry.high = low, high
        self.pad_h, self.pad_w = pad
        if (min(weights.shape[0], weights.shape[1], weights.shape[2]) < 1
                or min(*stride, *dilation) < 1
                or (bias is not None and bias.shape[0] != weights.shape[0])
                or (slope is not None and slope.shape[0] != weights.shape[0])):
            raise KernelError("the parts of a depthwise convolution do not fit together")

    def bind(self, float[::1] arena not None, Planes src not None, Planes dst not None, int items,
             int threads, bint halo=True):
        """Return a call without arguments that computes ``dst`` from ``src``.

        Without ``halo`` that of dst is left as it is. Operands are checked once, here.

        Raises
        ------
        KernelError
            An operand lies outside its memory, or is not as large as the result needs.
        """
        cdef scnn_dwconv spec = self.geometry
        cdef int64_t across = (dst.width + self.lanes - 1) // self.lanes * self.lanes
        cdef int64_t below = (<int64_t>(dst.height - 1) * spec.stride_h
                              + (spec.kernel_h - 1) * spec.dilation_h)
        cdef int64_t base = -self.pad_h * src.pitch - self.pad_w
        cdef int64_t reach = ((src.channels - 1) * src.plane + below * src.pitch
                              + across * spec.stride_w + (spec.kernel_w - 1) * spec.dilation_w
                              + self.lanes)
        cdef DepthwiseCall call = DepthwiseCall.__new__(DepthwiseCall)
        call.convolution = self
        call.hold(arena, src, base, arena, dst, None, items, threads, halo)
        if (src.lead + base < 0 or call.reads_outside(reach)
                or dst.channels != self.weights.shape[0] or dst.channels % src.channels):
            raise KernelError("a depthwise convolution reaches outside its planes")
        spec.out_height, spec.out_width = dst.height, dst.width
        spec.in_pitch, spec.out_pitch = src.pitch, dst.pitch
        call.geometry = spec
        return call

    cdef void plane(self, scnn_dwconv spec, int64_t output, int begin, int end, const float *x,
                    Planes src, float *y, Planes dst, bint halo) noexcept nogil:
        """Compute rows [begin, end) of one plane of an item."""
        cdef float *out = y + output * dst.plane
        cdef int64_t channel = output // (dst.channels // src.channels)
        if halo and begin == 0:
            zero_halo(out, dst)
        spec.out_height = end - begin
        self.kernel(&spec, &self.weights[output, 0, 0],
                    self.bias[output] if self.bias is not None else 0,
                    &self.slope[output] if self.slope is not None else NULL,
                    x + channel * src.plane + begin * spec.stride_h * src.pitch,
                    out + dst.lead + begin * dst.pitch)

    cdef void planes(self, scnn_dwconv spec, int64_t task, int ranges, const float *x, Planes src,
                     float *y, Planes dst, bint halo) noexcept nogil:
        """Compute one range of rows of all planes of an item."""
        cdef int64_t item = task // ranges, output
        cdef int begin = task % ranges * dst.height // ranges
        cdef int end = (task % ranges + 1) * dst.height // ranges
        for output in range(dst.channels):
            self.plane(spec, output, begin, end, x + item * src.item, src, y + item * dst.item, dst,
                       halo)


@cython.final
cdef class DepthwiseCall(Operands):
    """A depthwise convolution with its operands (``Depthwise.bind``)."""

    cdef Depthwise convolution
    cdef scnn_dwconv geometry

    def __call__(self):
        """Compute."""
        cdef Depthwise conv = self.convolution
        cdef Planes src = self.src, dst = self.dst
        cdef scnn_dwconv spec = self.geometry
        cdef int64_t pixels = dst.pixels() * spec.stride_h * spec.stride_w
        cdef int ranges = ranges_of(src.channels, pixels, dst, 0, self.threads)
        cdef int64_t task, item, tasks = <int64_t>self.items * dst.channels
        cdef const float *x = self.input()
        cdef float *y = self.output()
        cdef bint halo = self.halo
        if self.threads == 1:
            with nogil:
                for item in range(self.items):
                    conv.planes(spec, item, 1, x, src, y, dst, halo)
        elif ranges > 1:
            for task in prange(self.items * ranges, nogil=True, num_threads=self.threads,
                               schedule="static"):
                conv.planes(spec, task, ranges, x, src, y, dst, halo)
        else:
            for task in prange(tasks, nogil=True, num_threads=self.threads, schedule="static"):
                item = task // dst.channels
                conv.plane(spec, task % dst.channels, 0, dst.height, x + item * src.item, src,
                           y + item * dst.item, dst, halo)
