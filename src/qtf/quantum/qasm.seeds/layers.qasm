OPENQASM 3.0;
include "stdgates.inc";
input float[64] x0;
input float[64] w0;
gate rot(phi, theta, omega) a { rz(phi) a; ry(theta) a; rz(omega) a; }
gate own(t) a, b { rx(t / 2) a; cx a, b; }
qubit[2] q;
ry(x0) q[0];
rot(w0, 0.5*w0*x0 - 1e-3, -pi/2) q[1];
own(2 ** 3) q[0], q[1];
barrier q;
bit[2] c;
c = measure q;
